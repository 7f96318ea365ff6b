"""A part of another source."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

from mmfound.batch import RawSample
from mmfound.data.source import Source
from mmfound.errors import ConfigError


class Subset(Source):
    """Some samples of a source, in their order: a range of them, or those at given indices.

    Attributes:
        classes: those of the source.

    Args:
        source: the whole.
        start: first index.
        stop: one past the last; the end by default.
        every: take every n-th.
        indices: the indices, instead of a range.

    Raises:
        ConfigError: when an index is not in the source, nothing is left, or both ways are used.
    """

    def __init__(
        self,
        source: Source,
        *,
        start: int = 0,
        stop: int | None = None,
        every: int = 1,
        indices: Sequence[int] | None = None,
    ) -> None:
        if indices is not None and (start, stop, every) != (0, None, 1):
            raise ConfigError("Subset: give indices, or start, stop and every; not both.")
        if every < 1 or start < 0 or (stop is not None and stop < 0):
            raise ConfigError(f"Subset: start {start}, stop {stop}, every {every} must be 0, 0 and 1 or more.")
        chosen = range(start, min(len(source), len(source) if stop is None else stop), every)
        self.source, self.classes = source, source.classes
        self._rows = np.asarray(chosen if indices is None else indices, np.int64)
        if not len(self._rows) or self._rows.min() < 0 or self._rows.max() >= len(source):
            raise ConfigError(f"Subset: {len(self._rows)} indices chosen of a source of {len(source)} samples.")

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._rows)

    def __getitem__(self, index: int) -> RawSample:
        """The raw sample at `index` of this part."""
        if not 0 <= index < len(self):
            raise IndexError(f"Subset has {len(self)} samples; there is no number {index}")
        return self.source[int(self._rows[index])]

    def captions(self) -> Iterable[str]:
        """All captions, in order; read without the pictures where the whole source is taken."""
        whole = np.array_equal(self._rows, np.arange(len(self.source)))
        yield from self.source.captions() if whole else super().captions()

    def stretches(self) -> Sequence[int]:
        """Samples of each stretch of the source; one stretch when the indices are not in its order."""
        if (np.diff(self._rows) <= 0).any():
            return [len(self)]
        counts = np.diff(np.searchsorted(self._rows, np.cumsum([0, *self.source.stretches()])))
        return counts[counts > 0].tolist()

    def fingerprint(self) -> str:
        """The source's, and the indices."""
        return f"Subset:{blake2b(self._rows.tobytes(), digest_size=8).hexdigest()}:{self.source.fingerprint()}"
