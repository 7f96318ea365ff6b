"""Encoded pictures to uint8 tensors.

torchvision's decoders for JPEG and WebP, Pillow for the rest. The header is read before anything is
decoded, so that a small file cannot ask for gigabytes.

Shape letters: H W image size.
"""

import io
import warnings
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from mmfound.data.errors import BadSample

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
# Of a GIF torchvision would decode every frame. On a damaged PNG its decoder (0.29.2) ends the process with a
# segmentation fault; Pillow gives the same pixels for a fifth more time.
_TORCHVISION = {"JPEG", "MPO", "WEBP"}
Alpha = Literal["white", "drop"]


def decode(
    data: bytes | np.ndarray, *, max_pixels: int = 64_000_000, alpha: Alpha = "white", exif: bool = False
) -> Tensor:
    """Decode a picture.

    Args:
        data: an encoded file (JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF; the first frame), or uint8 [H, W, 3] RGB.
        max_pixels: larger pictures are refused by their header.
        alpha: transparent pictures are laid on white, or lose their transparency and show what lies under it.
        exif: turn the picture as its orientation tag says.

    Returns:
        [3, H, W] uint8 RGB.

    Raises:
        BadSample: for anything that is not a whole picture of an allowed size.
    """
    if isinstance(data, np.ndarray):
        return _pixels(data, max_pixels)
    picture = _header(data)
    _check_size(picture.width, picture.height, max_pixels)
    try:
        if _needs_pillow(picture, exif):
            return _with_pillow(picture, alpha, exif)
        return _with_torchvision(data, exif)
    except BadSample:
        raise
    except Exception as error:  # on damaged files decoders raise anything
        first = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise BadSample("truncated or damaged", f"{picture.format} of {len(data)} bytes: {first}") from error


def _pixels(data: np.ndarray, max_pixels: int) -> Tensor:
    if data.dtype != np.uint8 or data.ndim != 3 or data.shape[2] != 3 or not data.size:
        raise BadSample("not an image", f"{data.dtype} array {data.shape}, not uint8 [H, W, 3]")
    _check_size(data.shape[1], data.shape[0], max_pixels)
    return torch.from_numpy(np.require(data, requirements=["C", "W"])).permute(2, 0, 1)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadSample("too large", f"{width} x {height} pixels, more than max_pixels {max_pixels}")


def _header(data: bytes) -> Image.Image:
    if not data:
        raise BadSample("empty", "0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadSample("too large", str(error)) from error
    except Exception as error:  # mostly UnidentifiedImageError, but damaged headers raise anything
        raise BadSample("not an image", f"{len(data)} bytes beginning with {data[:12]!r}") from error


def _needs_pillow(picture: Image.Image, exif: bool) -> bool:
    if picture.format == "WEBP" and (exif or getattr(picture, "is_animated", False)):
        return True
    return _is_transparent(picture) or picture.format not in _TORCHVISION


def _is_transparent(picture: Image.Image) -> bool:
    if picture.mode.startswith("I"):  # one transparent shade of 16-bit grey, which Pillow cannot lay on white
        return False
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info


def _with_torchvision(data: bytes, exif: bool) -> Tensor:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return decode_image(encoded, ImageReadMode.RGB, apply_exif_orientation=exif)


def _with_pillow(picture: Image.Image, alpha: Alpha, exif: bool) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tags that do not matter here
        if exif:
            picture = ImageOps.exif_transpose(picture)
        if _is_transparent(picture):
            picture = picture.convert("RGBA")
            if alpha == "white":
                white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
                picture = Image.alpha_composite(white, picture)
        if picture.mode.startswith("I;16"):  # Pillow's own conversion would clip
            grey = torch.from_numpy((np.asarray(picture, np.float64) / 257).round().astype(np.uint8))
            return grey.expand(3, *grey.shape).contiguous()
        if picture.mode in ("I", "F"):
            raise BadSample("unknown range", f"{picture.format} of 32-bit values; save it with 8 or 16 bits")
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
