"""What a denoiser is told beside the noised sample: four slots, and nothing else.

Shape letters: B batch, L tokens, D width of the tokens, E width of the network's time embedding, C channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Condition(NamedTuple):
    """Each slot may be empty.

    A tuple, so that strategies that split weights find the tensors that a conditioner returns.

    Attributes:
        tokens: [B, L, D] to attend to.
        mask: [B, L] bool, True on tokens to attend to; None for all.
        vector: [B, E] added to the time embedding.
        concat: [B, C, H, W] channels beside x_t.
    """

    tokens: Tensor | None = None
    mask: Tensor | None = None
    vector: Tensor | None = None
    concat: Tensor | None = None


def join(parts: Sequence[Condition]) -> Condition:
    """Several conditions of one batch as one: tokens in a row, vectors added, channels in a row."""
    tokens = [part.tokens for part in parts if part.tokens is not None]
    vectors = [part.vector for part in parts if part.vector is not None]
    concats = [part.concat for part in parts if part.concat is not None]
    mask = None
    if any(part.mask is not None for part in parts):
        mask = torch.cat([_mask(part) for part in parts if part.tokens is not None], dim=1)
    return Condition(
        tokens=torch.cat(tokens, dim=1) if tokens else None,
        mask=mask,
        vector=torch.stack(vectors).sum(dim=0) if vectors else None,
        concat=torch.cat(concats, dim=1) if concats else None,
    )


def stack(first: Condition, second: Condition) -> Condition:
    """Two conditions of the same kind as one of twice the batch; shorter tokens are padded and masked."""
    length = max(c.tokens.shape[1] for c in (first, second) if c.tokens is not None) if first.tokens is not None else 0
    first, second = _padded(first, length), _padded(second, length)
    if first.tokens is not None and (first.mask is None) != (second.mask is None):
        first, second = _masked(first), _masked(second)

    def both(name: str) -> Tensor | None:
        a, b = getattr(first, name), getattr(second, name)
        return None if a is None else torch.cat([a, b])

    return Condition(both("tokens"), both("mask"), both("vector"), both("concat"))


def _mask(part: Condition) -> Tensor:
    assert part.tokens is not None
    return part.mask if part.mask is not None else part.tokens.new_ones(part.tokens.shape[:2], dtype=torch.bool)


def _masked(part: Condition) -> Condition:
    return Condition(part.tokens, _mask(part), part.vector, part.concat)


def _padded(part: Condition, length: int) -> Condition:
    if part.tokens is None or part.tokens.shape[1] == length:
        return part
    more = length - part.tokens.shape[1]
    pad = torch.nn.functional.pad
    return Condition(pad(part.tokens, (0, 0, 0, more)), pad(_mask(part), (0, more)), part.vector, part.concat)
