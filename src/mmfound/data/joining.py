"""Parts of a batch, as the workers make them, to the batch.

Shape letters: B samples of the batch.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def joined(parts: Iterable[dict[str, Any]], samples: int) -> dict[str, Any]:
    """One batch of `samples` samples, with the keys that all parts have; a part that is all of it stays as it is.

    Each is copied before the next is asked for: in shared memory, a part takes room and file descriptors.

    Returns:
        Tensors [B, ...], pictures in pinned memory where those of the parts are; texts padded with 0 to the longest;
        lists in a row.
    """
    whole: dict[str, Any] = {}
    done = 0
    for part in parts:
        if len(part["key"]) == samples:
            return part
        names = [name for name in part if name in whole or not done]
        whole = {name: _extended(whole.get(name), part[name], done, samples) for name in names}
        done += len(part["key"])
    return whole


def _extended(whole: Any, part: Any, done: int, samples: int) -> Any:
    """`whole` with `part` after its first `done` samples; wider if need be."""
    if not isinstance(part, Tensor):
        return [*(whole or ()), *part]
    if whole is None:
        whole = _room(part, samples)
    if part.ndim != 2:
        whole[done : done + len(part)].copy_(part)
        return whole
    if part.shape[1] > whole.shape[1]:
        whole = F.pad(whole, (0, part.shape[1] - whole.shape[1]))
    whole[done : done + len(part), : part.shape[1]].copy_(part)
    return whole


def _room(part: Tensor, samples: int) -> Tensor:
    layout = torch.channels_last if part.ndim == 4 else torch.contiguous_format
    shape = (samples, *part.shape[1:])
    room = torch.empty(shape, dtype=part.dtype, memory_format=layout, pin_memory=part.is_pinned())
    return room.zero_() if part.ndim == 2 else room
