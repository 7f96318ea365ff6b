"""Batches larger than memory: encoded a chunk at a time, every chunk once more in the backward pass.

Gradient caching (Gao et al. 2021, arXiv:2101.06983), written as checkpoints of one graph instead of as two passes: the
backward pass of the loss reaches each parameter once, with the sum over all chunks, so that the hooks of DDP, FSDP2 and
DeepSpeed run once a step, as they do for a whole batch.

Shape letters: B samples on this rank.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmfound.batch import chunks_of, image_float
from mmfound.seeding import seed_generators

Encode = Callable[[Any], tuple[Tensor, ...]]


def encode_in_chunks(
    encode: Encode, batch: Mapping[str, Any], size: int, seeds: Sequence[int] = ()
) -> tuple[Tensor, ...]:
    """What `encode` gives for the whole batch, with activations of only one chunk at a time in memory.

    Args:
        encode: from a batch to tensors of one row per sample, each a function of its own sample alone.
        batch: pictures may be uint8; each chunk's become float32 in [0, 1].
        size: samples of a chunk.
        seeds: of the generators, one per chunk; without them noise follows from the generators' state, and is the same
            in both passes too.

    Returns:
        [B, ...] each. Gradients are those of the whole batch in one piece.
    """
    chunks = chunks_of(batch, size)
    given, dtype = seeds or [None] * len(chunks), torch.get_default_dtype()
    # To the end the second time too: hooks may come after the last saved tensor, such as FSDP2's that free weights.
    parts = [
        checkpoint(_encode, encode, chunk, seed, dtype, use_reentrant=False, early_stop=False)
        for chunk, seed in zip(chunks, given, strict=True)
    ]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def batch_norms(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every batch normalisation that takes its statistics from the batch."""
    return ((name, part) for name, part in module.named_modules() if isinstance(part, _BatchNorm) and part.training)


def _encode(encode: Encode, chunk: dict[str, Any], seed: int | None, dtype: torch.dtype) -> tuple[Tensor, ...]:
    if seed is not None:
        seed_generators(seed, _device(chunk))
    # Chunks that shared autocast's copies of the weights would add up their gradients in the copies' dtype, bfloat16.
    torch.clear_autocast_cache()
    with _default_dtype(dtype):
        return encode(image_float(chunk))


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Lightning's "true" precisions set it for the forward pass alone, and noise in another dtype is other noise."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _device(chunk: Mapping[str, Any]) -> torch.device:
    return next(value.device for value in chunk.values() if isinstance(value, Tensor))
