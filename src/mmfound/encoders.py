"""Dual encoders as somebody else left them: the networks, their tokenizer and how they take pictures."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from mmfound import weights as exports
from mmfound.data.transforms import CenterCrop, Resize
from mmfound.errors import ConfigError
from mmfound.interop import foreign
from mmfound.interop.files import find
from mmfound.interop.tokenizers import tokenizer_of as foreign_tokenizer
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
        interpolation: of the resizing.
    """

    size: int
    fit: Literal["crop", "squash"] = "crop"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"

    def transform(self) -> nn.Module:
        """From uint8 [3, H, W] to uint8 [3, size, size]."""
        kind = CenterCrop if self.fit == "crop" else Resize
        return kind(self.size, self.interpolation)


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


def load_encoder(weights: Path | str, **said: Any) -> LoadedEncoder:
    """A dual encoder with all that belongs to it.

    Args:
        weights: an export of ours; or weights of OpenAI's, open_clip's or transformers' CLIP or SigLIP, a file or a
            folder.
        said: what such weights do not say: the last arguments of `mmfound.weights.pretrained`.

    Raises:
        ConfigError: when there is none, it is no dual encoder, or something has to be said.
        DataError: when its weights are damaged.
    """
    encoder = exports.pretrained(weights, **said)
    if not isinstance(encoder, DualEncoder):
        raise ConfigError(f"{weights} holds a {type(encoder).__name__}, not a DualEncoder; name one that embeds both.")
    path = Path(weights)
    digest = foreign.fingerprint(path) if foreign.is_foreign(path) else fingerprint(path / exports.WEIGHTS)
    return LoadedEncoder(encoder, _tokenizer_if_any(path, said), picture_of(path, **said), digest)


def _tokenizer_if_any(path: Path, said: dict[str, Any]) -> Tokenizer | None:
    if not foreign.is_foreign(path):
        return load_tokenizer(path) if (path / FILE).is_file() else None
    with suppress(ConfigError):
        return tokenizer_of(path, **said)
    return None


def encoder_of(weights: Path | str, **said: Any) -> DualEncoder:
    """`load_encoder(weights).encoder`, for a recipe's `model.init_args.encoder`."""
    return load_encoder(weights, **said).encoder


def tokenizer_of(weights: Path | str, **said: Any) -> Tokenizer:
    """The tokenizer that belongs to weights, read without them; `said` as in `load_encoder`.

    Raises:
        ConfigError: when none came along.
    """
    path = Path(weights)
    if foreign.is_foreign(path):
        described = exports.describe(path, **said)
        return foreign_tokenizer(find(path), described["init_args"]["text_tower"]["init_args"])
    return load_tokenizer(path)


def picture_of(weights: Path | str, **said: Any) -> Picture:
    """How the network of these weights takes pictures, read without them; `said` as in `load_encoder`.

    Raises:
        ConfigError: when that is not known.
    """
    image = exports.describe(weights, **said).get("image") or {}
    if "size" not in image:
        raise ConfigError(f"{weights}/{exports.CONFIG} does not say the size of its pictures; export it again.")
    return Picture(int(image["size"]), image.get("fit", "crop"), image.get("interpolation", "bicubic"))


def image_transform_of(weights: Path | str, **said: Any) -> nn.Module:
    """`picture_of(weights).transform()`, for a recipe's `data.init_args.eval_image`."""
    return picture_of(weights, **said).transform()


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
