"""Snow, frost and fog. Shape letters: H W image size."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmfound.data.corruptions.filters import SIDE, resize, scale_of, streak, zoomed

_GREY = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
_ICE = torch.tensor([0.88, 0.95, 1.0])[:, None, None]


def snow(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """Flakes, falling within 45 degrees of straight down, over a whitened picture."""
    mean, deviation, zoom, least, radius, sigma, kept = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity - 1]
    height, width = _drawn_size(image)
    flakes = torch.from_numpy(draw.normal(mean, deviation, (1, height, width)).astype(np.float32))
    flakes = zoomed(flakes, zoom)
    flakes = streak(flakes.where(flakes >= least, 0).clamp(0, 1), radius, sigma, draw.uniform(-135, -45))
    layer = resize(flakes + flakes.rot90(2, (1, 2)), *image.shape[-2:])
    grey = (image * _GREY).sum(dim=0, keepdim=True)
    return kept * image + (1 - kept) * torch.maximum(image, grey * 1.5 + 0.5) + layer


def frost(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """Ice on the glass. The original lays photographs over the picture; here the ice is drawn.

    Bluish white, in veins along the ridges of a fractal, thicker in some places than in others.
    """
    kept, added = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    height, width = image.shape[-2:]
    veins = 1 - (2 * fractal(height, width, 1.5, draw) - 1).abs()
    cover = fractal(height, width, 2.0, draw)
    ice = (0.25 + 0.75 * cover) * (0.35 + 0.65 * veins**2)
    return kept * image + added * ice * _ICE


def fog(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """A fractal mist, the range of the picture pressed together to make room for it."""
    density, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[severity - 1]
    height, width = image.shape[-2:]
    mist = fractal(height, width, decay, draw)
    brightest = float(image.max())
    return (image + density * mist) * (brightest / max(brightest + density, 1e-6))


def fractal(height: int, width: int, decay: float, draw: np.random.Generator) -> Tensor:
    """A plasma, [1, height, width] in [0, 1], of which the longer side shows 224 parts in 256.

    Lattices of uniform noise, each twice as fine as the one before and `decay` squared times as weak, interpolated and
    added: what midpoint displacement (the original's diamond-square) comes down to. A larger picture has more of them;
    the coarse ones are the same at every size.
    """
    side = max(2, round(max(height, width) * 256 / SIDE))
    plasma = torch.zeros(1, 1, side, side)
    strength, cells = 1.0, 2
    while cells <= side:
        lattice = torch.from_numpy(draw.uniform(-strength, strength, (1, 1, cells, cells)).astype(np.float32))
        wrapped = F.pad(lattice, (0, 1, 0, 1), mode="circular")
        plasma += F.interpolate(wrapped, (side + 1, side + 1), mode="bilinear", align_corners=True)[..., :-1, :-1]
        strength, cells = strength / decay**2, 2 * cells
    plasma = (plasma - plasma.min()) / (plasma.max() - plasma.min()).clamp(min=1e-6)
    return plasma[0, :, :height, :width]


def _drawn_size(image: Tensor) -> tuple[int, int]:
    """Height and width with 224 for the shorter side."""
    height, width = image.shape[-2:]
    return round(height / scale_of(image)), round(width / scale_of(image))
