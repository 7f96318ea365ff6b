"""Exposure, distortion and compression. Shape letters: H W image size."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmfound.data.corruptions.filters import gaussian, places, sampled, scale_of


def brightness(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """More of HSV's value, hue and saturation kept: one factor for all channels of a pixel; black becomes grey."""
    added = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    value = image.amax(dim=0, keepdim=True)
    brighter = (value + added).clamp(max=1)
    return torch.where(value > 0, image * (brighter / value.clamp(min=1e-6)), brighter)


def contrast(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """Closer to the mean of each channel."""
    factor = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    mean = image.mean(dim=(1, 2), keepdim=True)
    return (image - mean) * factor + mean


def elastic_transform(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """A random affine map, then every pixel displaced by a smoothed random field (Simard et al. 2003)."""
    strength, sigma, shift = (
        (244 * 2, 244 * 0.7, 244 * 0.1),  # 244 for pictures of 224 px, as in the original
        (244 * 2, 244 * 0.08, 244 * 0.2),
        (244 * 0.05, 244 * 0.01, 244 * 0.02),
        (244 * 0.07, 244 * 0.01, 244 * 0.02),
        (244 * 0.12, 244 * 0.01, 244 * 0.02),
    )[severity - 1]
    scale = scale_of(image)
    height, width = image.shape[-2:]
    y, x = places(image)
    moved = sampled(image, *_affine(height, width, shift * scale, y, x, draw), mirror_about_pixels=True)
    noise = torch.from_numpy(draw.uniform(-1, 1, (2, height, width)).astype(np.float32))
    down, right = gaussian(noise, sigma * scale, truncate=3, mirror=True) * (strength * scale)
    return sampled(moved, y + down, x + right)


def _affine(
    height: int, width: int, shift: float, y: Tensor, x: Tensor, draw: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Where each pixel comes from, when three points about the middle move by up to `shift` pixels each."""
    middle, side = np.array([width // 2, height // 2]), min(height, width) // 3
    points = np.array([middle + side, [middle[0] + side, middle[1] - side], middle - side], np.float64)
    while True:
        targets = points + draw.uniform(-shift, shift, points.shape)
        homogeneous = np.concatenate([targets, np.ones((3, 1))], axis=1)
        if abs(np.linalg.det(homogeneous)) > 1e-3:  # three points on a line have no inverse
            break
    (xx, yx), (xy, yy), (x0, y0) = np.linalg.solve(homogeneous, points)
    return yx * x + yy * y + y0, xx * x + xy * y + x0


def pixelate(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """Made smaller and larger again, by Pillow's box filter."""
    factor = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    picture = _picture(image)
    small = picture.resize(
        (max(1, int(picture.width * factor)), max(1, int(picture.height * factor))), Image.Resampling.BOX
    )
    return _tensor(small.resize(picture.size, Image.Resampling.BOX))


def jpeg_compression(image: Tensor, severity: int, draw: np.random.Generator) -> Tensor:
    """Pillow's JPEG at a low quality."""
    quality = (25, 18, 15, 10, 7)[severity - 1]
    file = io.BytesIO()
    _picture(image).save(file, "JPEG", quality=quality)
    return _tensor(Image.open(file))


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255
