"""What every data source offers."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from mmfound.batch import RawSample


class Source(ABC):
    """Samples addressed by index. Opening it finds missing or empty data; reading a sample never decodes the picture.

    Sources are copied to worker processes: keep captions and offsets in numpy arrays or packed bytes, not in lists of
    Python objects, and open files after the copy.

    Attributes:
        classes: names of the labels, empty when there are none.
    """

    classes: Sequence[str] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def __getitem__(self, index: int) -> RawSample:
        """The raw sample at `index`, 0 <= index < len(self).

        Raises:
            mmfound.data.BadSample: when it cannot be read; the stream replaces it and counts it.
        """

    def captions(self) -> Iterable[str]:
        """All captions, in order, without reading pictures where the storage allows."""
        for index in range(len(self)):
            yield from self[index].get("captions", [])

    def stretches(self) -> Sequence[int]:
        """Lengths of the pieces that lie together on disk (one per shard), in order; their sum is `len(self)`."""
        return [len(self)]

    def fingerprint(self) -> str:
        """Changes when the samples behind the indices change; a resumed run compares it."""
        return f"{type(self).__name__}:{len(self)}"
