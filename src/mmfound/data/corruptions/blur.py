"""Blurs. Shape letters: H W image size, k side of a kernel."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmfound.data.corruptions.filters import gaussian, places, sampled, scale_of, streak, zoomed


def defocus_blur(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """A disc for every point. Its edge follows the area that it covers of a pixel, not the pixel's centre."""
    radius, soft = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    kernel_kk = _disc(radius * scale_of(image), soft * scale_of(image))
    margin = len(kernel_kk) // 2
    padded = F.pad(image[None], [margin] * 4, mode="reflect" if margin < min(image.shape[-2:]) else "replicate")
    return F.conv2d(padded.transpose(0, 1), kernel_kk[None, None])[:, 0]


def _disc(radius: float, soft: float) -> Tensor:
    """[k, k] of sum 1, k odd: the share of each pixel that lies in a disc, blurred by a Gaussian of `soft` pixels."""
    parts, reach = 16, math.ceil(radius + 0.5) + 2  # 16 x 16 points a pixel
    side = 2 * reach + 1
    offset = (torch.arange(side * parts) + 0.5) / parts - side / 2
    inside = (offset[:, None] ** 2 + offset**2 <= radius**2).float()
    covered = F.avg_pool2d(inside[None], parts)
    blurred = gaussian(covered, soft, truncate=2)[0] if soft > 0.05 else covered[0]
    return blurred / blurred.sum()


def glass_blur(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """Neighbouring pixels copied over one another, between two Gaussian blurs.

    The original visits pixels one by one and, through numpy's views, copies where it means to swap. Here all pixels of
    a round are read at once from what the round before has left.
    """
    sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity - 1]
    scale = scale_of(image)
    y, x = places(image)
    height, width = image.shape[-2:]
    margin = reach * scale
    within = (y > margin) & (y <= height - margin) & (x > margin) & (x <= width - margin)
    blurred = gaussian(image, sigma * scale)
    for _ in range(rounds):
        down, right = torch.from_numpy(draw.integers(-reach, reach, (2, height, width))).float() * scale * within
        blurred = sampled(blurred, y + down, x + right)
    return gaussian(blurred, sigma * scale)


def motion_blur(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """A streak in a random direction, at most 45 degrees from the horizontal."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    scale = scale_of(image)
    return streak(image, radius * scale, sigma * scale, draw.uniform(-45, 45))


def zoom_blur(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """The mean of the picture and of enlargements of its middle."""
    factors = (
        np.arange(1, 1.11, 0.01),
        np.arange(1, 1.16, 0.01),
        np.arange(1, 1.21, 0.02),
        np.arange(1, 1.26, 0.02),
        np.arange(1, 1.31, 0.03),
    )[severity - 1]
    return sum((zoomed(image, float(factor)) for factor in factors), image) / (len(factors) + 1)
