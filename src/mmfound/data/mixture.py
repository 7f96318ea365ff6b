"""Several sources in one stream, in fixed shares."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import floor

import numpy as np

from mmfound.batch import RawSample
from mmfound.data.order import Arrangement, Order
from mmfound.data.randomness import permutation
from mmfound.data.source import Source
from mmfound.data.stream import Stream
from mmfound.errors import ConfigError

_QUOTA = 1000  # positions over which weights are kept to within one sample


@dataclass
class Share:
    """A source and how much of the stream it is.

    Args:
        source: the samples.
        weight: share of the stream relative to the other weights.
        count: samples in every global batch, instead of a weight.
    """

    source: Source
    weight: float | None = None
    count: int | None = None


class Mixture(Source):
    """Several sources as one train source, in shares by weight or in fixed counts of every global batch.

    Each source is read in the recipe's order and starts its own next epoch when it has been read through. The shares
    are exact: after any multiple of 1000 samples (of one batch, for counts) every source has given its share of the
    whole stream so far, to within one sample. Read by index, it is the sources one after the other.

    Args:
        sources: the shares; all with a weight or all with a count.

    Raises:
        ConfigError: when weights and counts are mixed, or not above zero.
    """

    def __init__(self, sources: list[Share]) -> None:
        self.shares = sources
        self.sources = [share.source for share in sources]
        self.classes = next((source.classes for source in self.sources if source.classes), ())
        counts = [share.count for share in sources if share.count is not None and share.weight is None]
        weights = [share.weight for share in sources if share.weight is not None and share.count is None]
        amounts = counts or weights
        if not sources or len(amounts) != len(sources) or min(amounts) <= 0:
            given = [(share.weight, share.count) for share in sources]
            raise ConfigError(
                f"Mixture: (weight, count) of its sources are {given}; give every source a weight above 0, "
                "or every source a count above 0."
            )
        self.batch_size = sum(counts) if counts else None
        self._amounts = [Fraction(amount).limit_denominator(10**6) for amount in amounts]
        self._stops = list(accumulate(len(source) for source in self.sources))

    def __len__(self) -> int:
        """Samples of all sources together."""
        return self._stops[-1]

    def __getitem__(self, index: int) -> RawSample:
        """The raw sample at `index` of the sources laid end to end."""
        number = int(np.searchsorted(self._stops, index, "right"))
        return self.sources[number][index - ([0, *self._stops])[number]]

    def captions(self) -> Iterable[str]:
        """Captions of the sources, one after the other."""
        for source in self.sources:
            yield from source.captions()

    def stretches(self) -> Sequence[int]:
        """Stretches of the sources, one after the other."""
        return [length for source in self.sources for length in source.stretches()]

    def fingerprint(self) -> str:
        """Of the sources and their shares."""
        parts = zip(self.sources, self._amounts, strict=True)
        return "Mixture:" + ",".join(f"{amount}*{source.fingerprint()}" for source, amount in parts)

    def stream(self, order: Order, seed: int, batch_size: int) -> Stream:
        """This mixture as an endless stream.

        Raises:
            ConfigError: when the counts are not those of a batch of this size.
        """
        if self.batch_size not in (None, batch_size):
            raise ConfigError(
                f"Mixture: the counts add up to {self.batch_size}, but data.init_args.global_batch_size is "
                f"{batch_size}; make them equal, or give weights."
            )
        arrangements = [order.arrange(source.stretches(), seed, k) for k, source in enumerate(self.sources)]
        return _Mixed(arrangements, self._amounts, self.batch_size or _QUOTA, seed)


class _Mixed(Stream):
    """Nested rounding: of the first N places, those of the first k sources are a rounded share of the first k + 1's."""

    def __init__(self, arrangements: list[Arrangement], amounts: list[Fraction], quota: int, seed: int) -> None:
        self.samples = sum(arrangement.length for arrangement in arrangements)
        self._arrangements = arrangements
        self._quota, self._seed = quota, seed
        totals = list(accumulate(amounts))
        self._ratios = [low / high for low, high in zip(totals, totals[1:], strict=False)]

    def draws(self, start: int, stop: int) -> np.ndarray:
        pieces = []
        while start < stop:
            block, offset = divmod(start, self._quota)
            end = min(stop - start + offset, self._quota)
            pieces.append(self._block_draws(block, offset, end))
            start += end - offset
        return np.concatenate(pieces) if pieces else np.empty((0, 3), np.int64)

    def _block_draws(self, block: int, offset: int, end: int) -> np.ndarray:
        before, after = self._given(block * self._quota), self._given((block + 1) * self._quota)
        counts = [high - low for low, high in zip(before, after, strict=True)]
        numbers = np.repeat(np.arange(len(counts)), counts)[permutation(self._quota, "mixture", self._seed, block)]
        out = np.empty((end - offset, 3), np.int64)
        out[:, 1] = numbers[offset:end]
        for number, arrangement in enumerate(self._arrangements):
            here = out[:, 1] == number
            first = before[number] + int((numbers[:offset] == number).sum())
            out[here, 0::2] = _occurrences(arrangement, first, first + int(here.sum()))
        return out

    def _given(self, places: int) -> list[int]:
        """How many of the first `places` places each source has; exact at any size."""
        totals = [places]
        for ratio in reversed(self._ratios):
            totals.append(floor(totals[-1] * ratio + Fraction(1, 2)))
        totals.append(0)
        return [high - low for high, low in zip(totals, totals[1:], strict=False)][::-1]


def _occurrences(arrangement: Arrangement, start: int, stop: int) -> np.ndarray:
    """[stop - start, 2] (epoch, index) of the start-th and following samples that a source gives."""
    pieces = []
    while start < stop:
        epoch, place = divmod(start, arrangement.length)
        end = min(place + stop - start, arrangement.length)
        indices = arrangement.indices(epoch, place, end)
        pieces.append(np.stack([np.full_like(indices, epoch), indices], axis=1))
        start += end - place
    return np.concatenate(pieces) if pieces else np.empty((0, 2), np.int64)
