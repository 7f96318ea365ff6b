"""What several corruptions are made of. Shape letters: C channels, H W image size, n side."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 224  # of the pictures that all constants are for


def scale_of(image: Tensor) -> float:
    """Shorter side over 224: what lengths are multiplied by."""
    return min(image.shape[-2:]) / SIDE


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """[C, h, w] to [C, height, width], bilinear, antialiased."""
    if image.shape[-2:] == (height, width):
        return image
    return F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]


def gaussian(image: Tensor, sigma: float, *, truncate: float = 4.0, mirror: bool = False) -> Tensor:
    """Gaussian blur of [C, H, W], of any width.

    Args:
        image: what to blur.
        sigma: standard deviation in pixels.
        truncate: radius of the kernel in standard deviations.
        mirror: continue beyond the borders with the mirror image, instead of with the last pixel.
    """
    rows, columns = (_gaussian_matrix(side, sigma, truncate, mirror) for side in image.shape[-2:])
    return rows @ image @ columns.T


def _gaussian_matrix(side: int, sigma: float, truncate: float, mirror: bool) -> Tensor:
    """[n, n]: each row the kernel about its pixel, with what lies beyond the borders folded in."""
    radius = int(truncate * sigma + 0.5)
    offset = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2)
    place = torch.arange(side)[:, None] + offset
    if mirror:
        place = place.remainder(2 * side)
        place = torch.minimum(place, 2 * side - 1 - place)
    matrix = torch.zeros(side, side)
    return matrix.scatter_add_(1, place.clamp(0, side - 1), (kernel / kernel.sum()).expand(side, -1))


def streak(image: Tensor, radius: float, sigma: float, angle: float) -> Tensor:
    """Motion blur of [C, H, W] as ImageMagick has it: one half of a Gaussian, 2 * radius + 1 long, in one direction.

    Args:
        image: what to blur; continued beyond its borders with the last pixel.
        radius: in pixels.
        sigma: standard deviation of the Gaussian, in pixels.
        angle: of the direction, in degrees.
    """
    taps = max(2, math.ceil(2 * radius) + 1)
    step = 2 * radius / (taps - 1)
    weight: dict[tuple[int, int], float] = {}
    for tap in range(taps):
        y, x = (tap * step * part(math.radians(angle)) for part in (math.sin, math.cos))
        strength = math.exp(-0.5 * (tap * step / sigma) ** 2)
        for row, column, share in _corners(y, x):
            weight[row, column] = weight.get((row, column), 0.0) + strength * share
    total = sum(weight.values())
    margin = max(max(abs(row), abs(column)) for row, column in weight)
    padded = F.pad(image[None], [margin] * 4, mode="replicate")[0]
    height, width = image.shape[-2:]
    out = torch.zeros_like(image)
    for (row, column), share in weight.items():
        top, left = margin + row, margin + column
        out.add_(padded[:, top : top + height, left : left + width], alpha=share / total)
    return out


def _corners(y: float, x: float) -> list[tuple[int, int, float]]:
    """The pixels about a point, with their bilinear weights where these are not nothing."""
    row, column = math.floor(y), math.floor(x)
    down, right = y - row, x - column
    parts = [(a, b, wa * wb) for a, wa in ((0, 1 - down), (1, down)) for b, wb in ((0, 1 - right), (1, right))]
    return [(row + a, column + b, share) for a, b, share in parts if share > 1e-6]


def zoomed(image: Tensor, factor: float) -> Tensor:
    """The middle of [C, H, W], enlarged to its size by a factor of 1 or more, bilinear with aligned corners."""
    height, width = image.shape[-2:]
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = image[None, :, top : top + rows, left : left + columns]
    size = (max(height, round(rows * factor)), max(width, round(columns * factor)))
    large = F.interpolate(middle, size, mode="bilinear", align_corners=True)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[:, top : top + height, left : left + width]


def sampled(image: Tensor, y: Tensor, x: Tensor, *, mirror_about_pixels: bool = False) -> Tensor:
    """[C, H, W] read bilinearly at places.

    Args:
        image: what to read, continued by mirror images.
        y: [h, w] rows in pixels.
        x: [h, w] columns.
        mirror_about_pixels: the mirror lies on the last pixels, not on their outer edges.
    """
    height, width = image.shape[-2:]
    if mirror_about_pixels:
        grid = torch.stack([2 * x / max(1, width - 1) - 1, 2 * y / max(1, height - 1) - 1], dim=-1)
    else:
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    options = {"mode": "bilinear", "padding_mode": "reflection", "align_corners": mirror_about_pixels}
    return F.grid_sample(image[None], grid[None], **options)[0]


def places(image: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of all pixels, [H, W] float32 each."""
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    return y, x
