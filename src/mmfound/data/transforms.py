"""What happens to one picture in a worker: uint8 [3, H, W] in, uint8 [3, size, size] out.

Pictures are cropped before they are resized, and resized as uint8 by torch's antialiased bicubic kernel, which matches
Pillow's in quality and takes a quarter of its time. Randomness comes from torch's default generator, which is seeded
for every sample. Shape letters: H W image size.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Interpolation = Literal["bicubic", "bilinear"]


class Resize(nn.Module):
    """The whole picture squeezed into a square.

    Args:
        size: side of the result in pixels.
        interpolation: of the resizing.
    """

    def __init__(self, size: int, interpolation: Interpolation = "bicubic") -> None:
        super().__init__()
        self.size = size
        self.interpolation: Interpolation = interpolation

    def forward(self, image: Tensor) -> Tensor:
        """[3, H, W] -> [3, size, size], uint8."""
        return _resize(image, self.size, self.size, self.interpolation)


class CenterCrop(nn.Module):
    """The shorter edge resized to `size`, then the central square: what CLIP evaluates with.

    Args:
        size: side of the result in pixels.
        interpolation: of the resizing.
    """

    def __init__(self, size: int, interpolation: Interpolation = "bicubic") -> None:
        super().__init__()
        self.size = size
        self.interpolation: Interpolation = interpolation

    def forward(self, image: Tensor) -> Tensor:
        """[3, H, W] -> [3, size, size], uint8."""
        height, width = image.shape[-2:]
        shorter = min(height, width)
        image = _resize(image, self.size * height // shorter, self.size * width // shorter, self.interpolation)
        top = round((image.shape[-2] - self.size) / 2)
        left = round((image.shape[-1] - self.size) / 2)
        return image[:, top : top + self.size, left : left + self.size]


class TrimBorder(nn.Module):
    """Cuts the same number of pixels off all four sides, as for ObjectNet's red border of two pixels.

    Args:
        pixels: how many.
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, image: Tensor) -> Tensor:
        """[3, H, W] -> [3, H - 2 * pixels, W - 2 * pixels], uint8."""
        height, width = image.shape[-2:]
        return image[:, self.pixels : height - self.pixels, self.pixels : width - self.pixels]


class RandomCrop(nn.Module):
    """A random square of the picture whose shorter edge has been resized to `size`: CLIP's only augmentation.

    Args:
        size: side of the result in pixels.

    Source: Radford et al. 2021, arXiv:2103.00020, section 2.3.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: Tensor) -> Tensor:
        """[3, H, W] -> [3, size, size], uint8."""
        height, width = image.shape[-2:]
        side = min(height, width)
        top, left = _corner(height - side, width - side, *torch.rand(2).tolist())
        return _resize(image[:, top : top + side, left : left + side], self.size, self.size)


class RandomResizedCrop(nn.Module):
    """A rectangle of random area, shape and place, squeezed into a square.

    Args:
        size: side of the result in pixels.
        scale: least and largest share of the picture's area; narrow by default, as pictures must keep what their
            caption says.
        ratio: least and largest width over height.

    Source: Szegedy et al. 2015, arXiv:1409.4842, section 6; scale from OpenCLIP (Ilharco et al. 2021).
    """

    _TRIES = 10  # before the central crop

    def __init__(
        self, size: int, *, scale: tuple[float, float] = (0.9, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
    ) -> None:
        super().__init__()
        if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(
                f"RandomResizedCrop: scale {scale} must lie in (0, 1] and ratio {ratio} above 0, in order."
            )
        self.size = size
        self.scale = scale
        self.ratio = ratio

    def forward(self, image: Tensor) -> Tensor:
        """[3, H, W] -> [3, size, size], uint8."""
        top, left, height, width = self._rectangle(*image.shape[-2:])
        return _resize(image[:, top : top + height, left : left + width], self.size, self.size)

    def _rectangle(self, height: int, width: int) -> tuple[int, int, int, int]:
        low, high = (math.log(value) for value in self.ratio)
        for area_draw, ratio_draw, top_draw, left_draw in torch.rand(self._TRIES, 4).tolist():
            area = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * area_draw)
            ratio = math.exp(low + (high - low) * ratio_draw)
            crop_height, crop_width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < crop_height <= height and 0 < crop_width <= width:
                return *_corner(height - crop_height, width - crop_width, top_draw, left_draw), crop_height, crop_width
        crop_height = min(height, max(1, round(width / self.ratio[0])))
        crop_width = min(width, max(1, round(height * self.ratio[1])))
        return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def _corner(spare_rows: int, spare_columns: int, top_draw: float, left_draw: float) -> tuple[int, int]:
    """Top and left of a crop, uniform over all places; the draws lie in [0, 1)."""
    return int(top_draw * (spare_rows + 1)), int(left_draw * (spare_columns + 1))


def _resize(image: Tensor, height: int, width: int, interpolation: Interpolation = "bicubic") -> Tensor:
    if image.shape[-2:] == (height, width):
        return image
    # Contiguous [H, W, 3] memory runs the vectorised kernel; a cropped view takes twice as long.
    image = image[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(image, size=(height, width), mode=interpolation, antialias=True)[0]
