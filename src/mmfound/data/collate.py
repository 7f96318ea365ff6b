"""Samples to a batch: one uint8 buffer for the pictures, one tokenizer call for the captions.

Shape letters: B samples, H W image size, L text length.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from mmfound.errors import ConfigError, DataError
from mmfound.text.tokenizer import Tokenizer


@dataclass
class Sample:
    """A sample ready to be stacked; what its source lacks is None."""

    key: str
    image: Tensor | None  # [3, H, W] uint8
    caption: str | None
    label: int | None


def collate(samples: Sequence[Sample], tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Stack samples into a batch of `mmfound.batch`, the picture still uint8.

    A key is there when all samples have what it needs; the keys of the text also need a tokenizer.

    Raises:
        DataError: when some samples have pictures, or captions under a tokenizer, and others have none.
        ConfigError: when the pictures differ in size.
    """
    batch: dict[str, Any] = {"key": [sample.key for sample in samples]}
    if images := _all_or_none("a picture", samples, [sample.image for sample in samples]):
        batch["image"] = stack_images(images)
    if tokenizer is not None:
        captions = _all_or_none("a caption", samples, [sample.caption for sample in samples])
        if captions:
            batch.update(tokenizer(captions), text_id=text_ids(captions))
    labels = [sample.label for sample in samples if sample.label is not None]
    if len(labels) == len(samples):
        batch["label"] = torch.tensor(labels, dtype=torch.int64)
    return batch


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """uint8 [3, H, W] each to [B, 3, H, W] in channels-last memory; shared memory when called in a worker.

    Raises:
        ConfigError: when they differ in size.
    """
    channels, height, width = images[0].shape
    count = len(images) * channels * height * width
    flat = torch.empty(0, dtype=torch.uint8)
    if get_worker_info() is None:
        flat.resize_(count)
    else:  # written once where the main process reads it
        flat.set_(torch.UntypedStorage._new_shared(count))  # pyright: ignore[reportArgumentType]
    buffer = flat.view(len(images), height, width, channels).permute(0, 3, 1, 2)
    for row, image in zip(buffer, images, strict=True):
        if image.shape != row.shape or image.dtype != torch.uint8:
            raise ConfigError(
                f"The image transform gave {image.dtype} {list(image.shape)} after uint8 {list(row.shape)}; "
                "data.init_args.train_image, augment and eval_image must give uint8 pictures of one size."
            )
        row.copy_(image)
    return buffer


def text_ids(texts: Sequence[str]) -> Tensor:
    """[B] int64 that are equal where the texts are."""
    digests = b"".join(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest() for text in texts)
    return torch.frombuffer(bytearray(digests), dtype=torch.int64)


def _all_or_none(thing: str, samples: Sequence[Sample], values: list[Any]) -> list[Any]:
    """`values` when every sample has one, nothing when no sample has one."""
    lacking = [sample.key for sample, value in zip(samples, values, strict=True) if value is None]
    if lacking and len(lacking) < len(samples):
        raise DataError(
            f"{len(lacking)} of {len(samples)} samples of a batch have not {thing}, the first is {lacking[0]!r}; "
            "the sources of one stream must all have the same."
        )
    return [] if lacking else values
