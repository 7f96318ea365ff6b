"""Encoded pictures to uint8 tensors.

torchvision's decoders for what training data is made of, Pillow for the rest. The header is read before anything is
decoded, so that a small file cannot ask for gigabytes.

Shape letters: H W image size.
"""

import io
import warnings
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_gif, decode_image

from mmfound.data.errors import BadSample

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_TORCHVISION = {"JPEG", "PNG", "WEBP"}
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
        return torch.from_numpy(data).permute(2, 0, 1)
    picture = _header(data)
    if picture.width * picture.height > max_pixels:
        raise BadSample("too large", f"{picture.width} x {picture.height} pixels, more than max_pixels {max_pixels}")
    try:
        if _is_transparent(picture) or picture.format not in {*_TORCHVISION, "GIF"}:
            return _with_pillow(picture, alpha, exif)
        return _with_torchvision(data, str(picture.format), exif)
    except (OSError, RuntimeError, SyntaxError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadSample("truncated or damaged", f"{picture.format} of {len(data)} bytes: {first}") from error


def _header(data: bytes) -> Image.Image:
    if not data:
        raise BadSample("empty", "0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadSample("too large", str(error)) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise BadSample("not an image", f"{len(data)} bytes beginning with {data[:12]!r}") from error


def _is_transparent(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info


def _with_torchvision(data: bytes, kind: str, exif: bool) -> Tensor:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    if kind == "GIF":
        frames = decode_gif(encoded)
        return frames if frames.ndim == 3 else frames[0]
    image = decode_image(encoded, ImageReadMode.RGB, apply_exif_orientation=exif)
    if image.dtype == torch.uint16:
        image = (image.float() / 257).round().to(torch.uint8)
    return image


def _with_pillow(picture: Image.Image, alpha: Alpha, exif: bool) -> Tensor:
    if exif:
        picture = ImageOps.exif_transpose(picture)
    if _is_transparent(picture):
        picture = picture.convert("RGBA")
        if alpha == "white":
            white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
            picture = Image.alpha_composite(white, picture)
    if picture.mode.startswith(("I", "F")):  # 16 bits and more: Pillow's own conversion would clip
        values = np.asarray(picture, np.float64)
        scale = 255 / (65535 if values.max() > 255 else 255)
        grey = torch.from_numpy((values * scale).round().clip(0, 255).astype(np.uint8))
        return grey.expand(3, *grey.shape).contiguous()
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
