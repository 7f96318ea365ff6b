"""Random numbers of conditioners: from torch's generators, or from each sample's seed where a batch has them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmfound.diffusion.noise import SampleNoise
from mmfound.seeding import mixed

SEEDS = "draw_seed"  # key of a batch: list of B numbers; what is drawn for a sample depends on its own alone


def normal(batch: Mapping[str, Any], like: Tensor, purpose: int) -> Tensor:
    """[B, ...] standard normal numbers like `like`; another purpose gives others for the same seeds."""
    if SEEDS not in batch:
        return torch.randn_like(like)
    return SampleNoise(0, batch[SEEDS], purpose).draw(like)


def generators(batch: Mapping[str, Any], size: int, purpose: int) -> list[torch.Generator]:
    """One generator on the CPU for each of `size` samples."""
    if SEEDS in batch:
        return [torch.Generator().manual_seed(mixed(0, purpose, int(seed))) for seed in batch[SEEDS]]
    seeds = torch.randint(2**62, (size,)).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]
