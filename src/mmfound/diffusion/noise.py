"""Noise that depends on (seed, sample index) alone, whatever the batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmfound.seeding import mixed


class SampleNoise:
    """Streams of Gaussian noise, one for each sample: the n-th draw of a sample is the same in every batch.

    Drawn on the CPU, so that it is the same on every device.

    Attributes:
        seeds: of the streams.

    Args:
        seed: of the run or the command.
        indices: [B] number of each sample, equal numbers draw equally.
        purpose: another number, another independent stream.
    """

    def __init__(self, seed: int, indices: Sequence[int], purpose: int = 0) -> None:
        self.seeds = [mixed(seed, purpose, int(index)) for index in indices]
        self._generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]

    def __len__(self) -> int:
        return len(self._generators)

    def draw(self, like: Tensor) -> Tensor:
        """[B, ...] standard normal numbers in the shape, dtype and device of `like`."""
        rows = [torch.randn(like.shape[1:], generator=generator, dtype=torch.float32) for generator in self._generators]
        return torch.stack(rows).to(device=like.device, dtype=like.dtype)
