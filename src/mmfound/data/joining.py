"""Micro-batches of the workers to the batch that a process takes at once.

Shape letters: B samples on this rank, b samples of a micro-batch.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def joined(batches: Iterable[dict[str, Any]], count: int) -> dict[str, Any]:
    """One batch of `count` micro-batches of b samples each, with the keys that all of them have.

    Each is copied before the next is asked for: in shared memory, a batch takes room and file descriptors.

    Returns:
        Tensors [B, ...], pictures in pinned memory where those of the micro-batches are; texts padded with 0 to the
        longest; lists in a row.
    """
    if count == 1:
        return next(iter(batches))
    whole: dict[str, Any] = {}
    for number, batch in enumerate(batches):
        whole = {name: whole[name] for name in batch if name in whole} if number else dict.fromkeys(batch)
        for name, so_far in whole.items():
            part = batch[name]
            is_tensor = isinstance(part, Tensor)
            whole[name] = _placed(so_far, part, number, count) if is_tensor else [*(so_far or ()), *part]
    return whole


def _placed(whole: Tensor | None, part: Tensor, number: int, count: int) -> Tensor:
    """`whole` with `part` as its `number`-th slice of `count`; wider if need be."""
    if whole is None:
        whole = _room(part, count)
    if part.ndim == 2 and part.shape[1] > whole.shape[1]:
        whole = F.pad(whole, (0, part.shape[1] - whole.shape[1]))
    rows = whole[number * len(part) : (number + 1) * len(part)]
    if part.ndim == 2:
        rows = rows[:, : part.shape[1]]
    rows.copy_(part)
    return whole


def _room(part: Tensor, count: int) -> Tensor:
    layout = torch.channels_last if part.ndim == 4 else torch.contiguous_format
    shape = (count * len(part), *part.shape[1:])
    room = torch.empty(shape, dtype=part.dtype, memory_format=layout, pin_memory=part.is_pinned())
    return room.zero_() if part.ndim == 2 else room
