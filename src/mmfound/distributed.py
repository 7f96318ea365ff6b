"""Collectives that carry gradients and are the identity on one process.

Shape letters: B batch on this rank, G batch over all ranks.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def world_size() -> int:
    """Number of processes; 1 when nothing is distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process; 0 when nothing is distributed."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _GatherBatch(torch.autograd.Function):
    """All-gather forward; the backward sums the gradient of every rank for this rank's rows (reduce-scatter)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        gathered = x.new_empty(world_size() * len(x), *x.shape[1:])
        dist.all_gather_into_tensor(gathered, x.contiguous())
        return gathered

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if dist.get_backend() == "nccl":
            mine = grad.new_empty(len(grad) // world_size(), *grad.shape[1:])
            dist.reduce_scatter_tensor(mine, grad.contiguous())
            return mine
        total = grad.clone(memory_format=torch.contiguous_format)  # autograd may still need the incoming one
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]


def gather_batch(x: Tensor) -> Tensor:
    """Concatenate `x` [B, ...] of all ranks, in rank order, to [G, ...]; every rank must have the same B.

    Differentiable: the gradient that all ranks' losses send to a row reaches the rank it came from, summed.
    """
    return _GatherBatch.apply(x) if world_size() > 1 else x  # pyright: ignore[reportReturnType]


def gather_rows(x: Tensor) -> Tensor:
    """Concatenate `x` [n, ...] of all ranks, in rank order, where n may differ; without gradients."""
    if world_size() == 1:
        return x
    sizes = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([len(x)], device=x.device))
    longest = max(int(size) for size in sizes)
    padded = x.new_zeros(longest, *x.shape[1:])
    padded[: len(x)] = x
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return torch.cat([rows[: int(size)] for rows, size in zip(gathered, sizes, strict=True)])
