"""The fifteen corruptions of ImageNet-C at five severities, with torch and Pillow alone.

Source: Hendrycks & Dietterich 2019, arXiv:1903.12261; constants from the authors' make_imagenet_c.py. They are for
pictures of 224 px. Lengths in pixels (radii, widths of blurs, displacements) scale with the shorter side over 224, and
snow, frost and fog are as large in a small picture as in a large one; noise is per pixel at any size, and JPEG's blocks
have eight.

Shape letters: H W image size.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mmfound.data.corruptions.blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from mmfound.data.corruptions.digital import brightness, contrast, elastic_transform, jpeg_compression, pixelate
from mmfound.data.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from mmfound.data.corruptions.weather import fog, frost, snow
from mmfound.data.randomness import key

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupt"]

Corruption = Callable[[Tensor, int, np.random.Generator], Tensor]

_ALL: tuple[Corruption, ...] = (
    *(gaussian_noise, shot_noise, impulse_noise),
    *(defocus_blur, glass_blur, motion_blur, zoom_blur),
    *(snow, frost, fog),
    *(brightness, contrast, elastic_transform, pixelate, jpeg_compression),
)
CORRUPTIONS: dict[str, Corruption] = {function.__name__: function for function in _ALL}  # in the paper's order
SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(image: Tensor, kind: str, severity: int, *seed: int | str) -> Tensor:
    """A corrupted copy, a function of its arguments alone.

    Args:
        image: [3, H, W] uint8 RGB.
        kind: one of `CORRUPTIONS`.
        severity: one of `SEVERITIES`.
        seed: what the random draws are keyed by, beside kind and severity.

    Returns:
        [3, H, W] uint8, rounded (the original cuts digits off).
    """
    draw = np.random.Generator(np.random.Philox(key=key("corruption", kind, severity, *seed)))
    corrupted = CORRUPTIONS[kind](image.float() / 255, severity, draw)
    return (corrupted.clamp(0, 1) * 255).round().to(torch.uint8)
