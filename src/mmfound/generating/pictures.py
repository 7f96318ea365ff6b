"""Pictures and masks to begin with, from files."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from mmfound.errors import DataError


def read_picture(path: Path) -> Tensor:
    """[3, H, W] uint8 RGB, turned as its orientation tag says; transparent pixels are white.

    Raises:
        DataError: when it is missing or cannot be read.
    """
    # Here, because it brings Lightning along, which takes seconds.
    from mmfound.data.decode import decode
    from mmfound.data.errors import BadSample

    try:
        return decode(path.read_bytes(), exif=True)
    except OSError as error:
        raise DataError(f"cannot read the picture {path}: {error.strerror}.") from error
    except BadSample as error:
        raise DataError(f"cannot read the picture {path}: {error}.") from error


def read_mask(path: Path, picture: Tensor, of: Path) -> Tensor:
    """[H, W] bool, True where the mask is white or transparent: what is to be drawn.

    Args:
        path: of the mask.
        picture: [3, H, W] that it belongs to.
        of: its path, for errors.

    Raises:
        DataError: when it cannot be read, has another size, or leaves nothing to draw.
    """
    mask = read_picture(path)
    if mask.shape[1:] != picture.shape[1:]:
        raise DataError(
            f"the mask {path} has {_size(mask)} pixels, and the picture {of} {_size(picture)}; make them equal."
        )
    hole = mask.float().mean(dim=0) >= 127.5
    if not hole.any():
        raise DataError(f"the mask {path} is black all over: white is what is drawn anew, black is kept.")
    return hole


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def to_pixels(image: Tensor) -> Tensor:
    """[B, 3, H, W] in [0, 1] -> [B, H, W, 3] uint8 on the CPU."""
    return (image * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def _size(picture: Tensor) -> str:
    return f"{picture.shape[2]} x {picture.shape[1]}"
