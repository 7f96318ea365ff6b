"""The keys that data writes and tasks read: the only contract between the two.

Images travel as uint8 from the workers to the device and become float32 in [0, 1] there, once, in the
DataModule's `on_after_batch_transfer`; those of a batch that is encoded in chunks, when their chunk is. Every mask is
True on what is to be kept.

Shape letters: B samples on this rank, H W image size, L text length.
"""

from collections.abc import Mapping
from typing import Any, NotRequired, Required, TypedDict

import numpy as np
import torch
from torch import Tensor


class RawSample(TypedDict, total=False):
    """What a source returns for an index: encoded, not yet augmented. Only `key` is always there."""

    key: Required[str]  # unique within the source
    image: bytes | np.ndarray  # encoded file, or uint8 [H, W, 3] RGB
    captions: list[str]  # at least one where present
    label: int  # counts from 0 in the order of the source's `classes`
    meta: dict[str, Any]  # everything else the source knows (attributes, questions, licence)


class TextBatch(TypedDict):
    """Captions alone."""

    key: list[str]  # B sample ids, unique within the source
    tokens: Tensor  # [B, L] int64 token ids, right-padded; the last real token of a row is its end token
    token_mask: Tensor  # [B, L] bool, True on real tokens
    text_id: Tensor  # [B] int64, equal where the captions are equal and (but for hash collisions) only there


class ImageBatch(TypedDict):
    """Pictures alone."""

    key: list[str]  # B sample ids, unique within the source
    image: Tensor  # [B, 3, H, W] RGB: uint8 until it is on the device, then float32 in [0, 1]
    label: NotRequired[Tensor]  # [B] int64, where the source has labels


class LabelledImageBatch(ImageBatch):
    """Pictures with a class each."""

    label: Required[Tensor]  # pyright: ignore[reportGeneralTypeIssues]


class ImageTextBatch(ImageBatch):
    """Pictures with one caption each."""

    tokens: Tensor  # [B, L] int64 token ids, right-padded; the last real token of a row is its end token
    token_mask: Tensor  # [B, L] bool, True on real tokens
    text_id: Tensor  # [B] int64, equal where the captions are equal and (but for hash collisions) only there


def image_float(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with its picture, [B, 3, H, W], as float32 in [0, 1] instead of uint8; one that is float already stays.

    The memory format is kept.
    """
    image = batch.get("image")
    if image is None or image.dtype != torch.uint8:
        return batch
    return {**batch, "image": image.float().div_(255)}


def chunks_of(batch: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    """Slices of up to `size` samples, nothing copied.

    Texts are cut to their chunk's longest, rounded up to 8, as the tokenizer would have padded them.
    """
    samples = len(batch["key"])
    chunks = [{name: value[at : at + size] for name, value in batch.items()} for at in range(0, samples, size)]
    if "token_mask" not in batch:
        return chunks
    longest = torch.stack([chunk["token_mask"].sum(dim=1).max() for chunk in chunks]).tolist()  # one wait for a device
    for chunk, length in zip(chunks, longest, strict=True):
        width = -(-max(8, length) // 8) * 8
        chunk.update({name: chunk[name][:, :width] for name in ("tokens", "token_mask")})
    return chunks
