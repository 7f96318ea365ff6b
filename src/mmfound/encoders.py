"""Dual encoders as somebody else left them: the networks, their tokenizer and how they take pictures."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from mmfound import weights as exports
from mmfound.data.transforms import CenterCrop, Resize
from mmfound.errors import ConfigError
from mmfound.models import DualEncoder
from mmfound.text.loading import load_tokenizer
from mmfound.text.saved import FILE
from mmfound.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Picture:
    """How a network takes its pictures.

    Args:
        size: side in pixels.
        fit: "crop" resizes the shorter edge and takes the central square, "squash" squeezes the whole into the square.
    """

    size: int
    fit: Literal["crop", "squash"] = "crop"

    def transform(self) -> nn.Module:
        """From uint8 [3, H, W] to uint8 [3, size, size]."""
        return CenterCrop(self.size) if self.fit == "crop" else Resize(self.size)


@dataclass(frozen=True)
class LoadedEncoder:
    """What `load_encoder` finds.

    Args:
        encoder: frozen, in eval mode, on the CPU; owns its pixel normalisation.
        tokenizer: of its texts; None where none came along.
        picture: what it takes.
        fingerprint: SHA-256 of the file of its weights, in hex.
    """

    encoder: DualEncoder
    tokenizer: Tokenizer | None
    picture: Picture
    fingerprint: str


def load_encoder(weights: Path | str) -> LoadedEncoder:
    """A dual encoder with all that belongs to it.

    Args:
        weights: an export of ours.

    Raises:
        ConfigError: when there is none, or it is no dual encoder.
        DataError: when its weights are damaged.
    """
    encoder = exports.pretrained(weights)
    if not isinstance(encoder, DualEncoder):
        raise ConfigError(f"{weights} holds a {type(encoder).__name__}, not a DualEncoder; name one that embeds both.")
    folder = Path(weights)
    tokenizer = load_tokenizer(folder) if (folder / FILE).is_file() else None
    return LoadedEncoder(encoder, tokenizer, picture_of(folder), fingerprint(folder / exports.WEIGHTS))


def encoder_of(weights: Path | str) -> DualEncoder:
    """`load_encoder(weights).encoder`, for a recipe's `model.init_args.encoder`."""
    return load_encoder(weights).encoder


def tokenizer_of(weights: Path | str) -> Tokenizer:
    """The tokenizer that belongs to weights, read without them.

    Raises:
        ConfigError: when none came along.
    """
    return load_tokenizer(Path(weights))


def picture_of(weights: Path | str) -> Picture:
    """How the network of these weights takes pictures, read without them.

    Raises:
        ConfigError: when that is not known.
    """
    image = exports.describe(weights).get("image") or {}
    if "size" not in image:
        raise ConfigError(f"{weights}/{exports.CONFIG} does not say the size of its pictures; export it again.")
    return Picture(int(image["size"]), image.get("fit", "crop"))


def image_transform_of(weights: Path | str) -> nn.Module:
    """`picture_of(weights).transform()`, for a recipe's `data.init_args.eval_image`."""
    return picture_of(weights).transform()


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
