"""Texts and pictures to queries, with the weights that made the file.

Shape letters: Q queries, E joint embedding width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mmfound.batch import image_float
from mmfound.data.decode import decode
from mmfound.data.errors import BadSample
from mmfound.embedding.file import EmbeddingFile
from mmfound.encoders import LoadedEncoder, load_encoder
from mmfound.errors import ConfigError, DataError


def encoder_for(file: EmbeddingFile, weights: str | None = None) -> LoadedEncoder:
    """The encoder that made a file.

    Args:
        file: says where its weights were.
        weights: where they are now.

    Raises:
        ConfigError: when they are gone, or are others.
    """
    place = file.facts["weights"] if weights is None else weights
    if weights is None and not Path(place).exists():
        raise ConfigError(f"{file.path} was made with {place}, which is gone; say where it is now with --weights.")
    loaded = load_encoder(place, **file.facts.get("said", {}))
    made = file.facts["weights_sha256"]
    if loaded.fingerprint != made:
        raise ConfigError(
            f"{file.path} was made with other weights (SHA-256 {made}) than those of {place} (SHA-256 "
            f"{loaded.fingerprint}); name those with --weights, or embed again."
        )
    return loaded


@torch.inference_mode()
def embed_queries(loaded: LoadedEncoder, place: str, texts: Sequence[str], pictures: Sequence[str]) -> np.ndarray:
    """[Q, E] float32 of unit length, the texts first.

    Args:
        loaded: the encoder.
        place: where it came from, for errors.
        texts: to be tokenized.
        pictures: paths.

    Raises:
        ConfigError: for texts without a tokenizer.
        DataError: for a picture that cannot be read.
    """
    rows = []
    if texts:
        if loaded.tokenizer is None:
            raise ConfigError(f"{place} has no tokenizer beside it, so it cannot read texts; search by --image.")
        tokens = loaded.tokenizer(list(texts))
        rows.append(loaded.encoder.embed_text(tokens["tokens"], tokens["token_mask"]))
    transform = loaded.picture.transform()
    for path in pictures:
        try:
            image = transform(decode(Path(path).read_bytes()))
        except OSError as error:
            raise DataError(f"cannot read the picture {path}: {error.strerror}.") from error
        except BadSample as error:
            raise DataError(f"cannot read the picture {path}: {error}.") from error
        rows.append(loaded.encoder.embed_image(image_float({"image": image[None]})["image"]))
    return torch.cat([row.float() for row in rows]).numpy()
