"""A part of a source."""

from mmfound.batch import RawSample
from mmfound.data.source import Source
from mmfound.errors import ConfigError


class Spread(Source):
    """At most `count` samples of a source, at equal distances over its whole length.

    Args:
        source: all samples.
        count: how many, at least 1.

    Raises:
        ConfigError: when it is less.
    """

    def __init__(self, source: Source, count: int) -> None:
        if count < 1:
            raise ConfigError(f"max_samples is {count}; it must be 1 or more, or null for all.")
        self._source = source
        self._count = min(count, len(source))
        self.classes = source.classes

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> RawSample:
        return self._source[index * len(self._source) // self._count]

    def fingerprint(self) -> str:
        """The count, and the source's."""
        return f"Spread:{self._count}:{self._source.fingerprint()}"
