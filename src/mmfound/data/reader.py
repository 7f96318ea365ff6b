"""Draws to batches: read, decode, transform, collate. Runs in the workers.

Shape letters: B samples.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mmfound.batch import RawSample
from mmfound.data.bad import BadRead
from mmfound.data.captions import Caption, FirstCaption
from mmfound.data.collate import Sample, collate
from mmfound.data.decode import decode
from mmfound.data.errors import BadSample
from mmfound.data.randomness import key, restored_generators, seed_generators
from mmfound.data.source import Source
from mmfound.errors import DataError, UserError
from mmfound.text.tokenizer import Tokenizer

TRIES = 8


@dataclass
class Prepare:
    """A raw sample to one that can be stacked."""

    image: Callable[[Tensor], Tensor]
    caption: Caption = field(default_factory=FirstCaption)
    max_pixels: int = 64_000_000
    alpha: Literal["white", "drop"] = "white"
    exif: bool = False

    def __call__(self, raw: RawSample) -> Sample:
        """Decode and transform the picture, pick the caption.

        Raises:
            BadSample: when the picture cannot be decoded.
        """
        captions = raw.get("captions")
        caption = self.caption(captions) if captions else None  # drawn first: the image transform may change
        image = None
        if (data := raw.get("image")) is not None:
            image = self.image(decode(data, max_pixels=self.max_pixels, alpha=self.alpha, exif=self.exif))
        return Sample(raw["key"], image, caption, raw.get("label"))


@dataclass
class Reader(ABC):
    """Makes batches. A batch carries the reads that failed under "bad"; a batch that cannot be made is its error.

    Args:
        prepare: what happens to a sample.
        tokenizer: of the captions; None leaves the text out.
    """

    prepare: Prepare
    tokenizer: Tokenizer | None

    def __getitem__(self, draws: np.ndarray) -> dict[str, Any] | UserError:
        """The batch of these draws. A user's error is returned: workers would bury its message in a traceback."""
        bad: list[BadRead] = []
        try:
            with restored_generators():
                return {**self.batch(draws, bad), "bad": bad}
        except UserError as error:
            return error

    @abstractmethod
    def batch(self, draws: np.ndarray, bad: list[BadRead]) -> dict[str, Any]:
        """The batch of these draws; appends the reads that fail to `bad`."""

    def read(self, source: Source, index: int, bad: list[BadRead], *seed: int | str) -> tuple[RawSample, Sample] | None:
        """A sample before and after preparing it, generators seeded by `seed`; None, and one more in `bad`, if bad."""
        where = f"{type(source).__name__}[{index}]"
        try:
            raw = source[index]
            where = f"{type(source).__name__} {raw['key']}"
            seed_generators(*seed)
            return raw, self.prepare(raw)
        except BadSample as error:
            error.where = error.where or where
            bad.append(BadRead(error.kind, str(error)))
            return None


@dataclass
class StreamReader(Reader):
    """Batches of a stream: random numbers are keyed by (seed, epoch, source, index), bad samples are replaced.

    The replacement is a function of the same key and the attempt, so that order and batch size stay what they were.

    Args:
        sources: that the draws number.
        seed: of the run.
    """

    sources: Sequence[Source]
    seed: int

    def batch(self, draws: np.ndarray, bad: list[BadRead]) -> dict[str, Any]:
        """[B, 3] draws of a `Stream`."""
        samples = [self._sample(epoch, number, index, bad) for epoch, number, index in draws.tolist()]
        return collate(samples, self.tokenizer)

    def _sample(self, epoch: int, number: int, index: int, bad: list[BadRead]) -> Sample:
        source = self.sources[number]
        tried = index
        for attempt in range(1, TRIES + 1):
            read = self.read(source, tried, bad, "sample", self.seed, epoch, number, tried)
            if read is not None:
                return read[1]
            tried = key("replacement", self.seed, epoch, number, index, attempt) % len(source)
        raise DataError(
            f"{TRIES} samples of {type(source).__name__} in a row could not be read, the last: {bad[-1].message}. "
            "Check that the data is complete."
        )


@dataclass
class ListReader(Reader):
    """Batches of one source for evaluators, with index, all captions and meta; bad samples are left out.

    Args:
        source: that the draws index.
    """

    source: Source

    def batch(self, draws: np.ndarray, bad: list[BadRead]) -> dict[str, Any]:
        """[B] indices; fewer samples come back where some are bad."""
        reads = {index: self.read(self.source, index, bad, "list", index) for index in draws.tolist()}
        good = {index: read for index, read in reads.items() if read is not None}
        return {
            **collate([sample for _, sample in good.values()], self.tokenizer),
            "index": torch.tensor(list(good), dtype=torch.int64),
            "captions": [raw.get("captions", []) for raw, _ in good.values()],
            "meta": [raw.get("meta", {}) for raw, _ in good.values()],
        }
