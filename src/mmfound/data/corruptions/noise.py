"""Noise, drawn for every pixel and channel alone.

All corruptions take [3, H, W] float32 in [0, 1], a severity and a generator, and return float32 that `corrupt` clips.
"""

import numpy as np
import torch
from torch import Tensor


def gaussian_noise(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """Additive and normal."""
    deviation = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return image + deviation * torch.from_numpy(draw.standard_normal(image.shape, np.float32))


def shot_noise(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """Counted photons: Poisson, of variance proportional to the brightness."""
    photons = (60, 25, 12, 5, 3)[severity - 1]  # at white
    return torch.from_numpy(draw.poisson(image.numpy() * photons).astype(np.float32)) / photons


def impulse_noise(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """Salt and pepper in equal parts, in place of a share of the values."""
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    chance = torch.from_numpy(draw.random(image.shape, np.float32))
    return torch.where(chance < share, (chance < share / 2).float(), image)
