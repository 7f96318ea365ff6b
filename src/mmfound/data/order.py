"""The order in which a source is read, as a pure function of (seed, epoch, place in the epoch)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mmfound.data.randomness import key, permutation


class Arrangement(ABC):
    """An order laid over a source.

    Attributes:
        length: number of samples of the source.
    """

    length: int

    @abstractmethod
    def indices(self, epoch: int, start: int, stop: int) -> np.ndarray:
        """[stop - start] int64 indices of the samples at places start..stop - 1 of an epoch, stop <= length.

        Takes the same time wherever in the epoch `start` lies.
        """


class Order(ABC):
    """A way to arrange any source. Named in recipes."""

    @abstractmethod
    def arrange(self, stretches: Sequence[int], seed: int, number: int = 0) -> Arrangement:
        """Lay this order over a source.

        Args:
            stretches: the source's `stretches()`.
            seed: of the run.
            number: of the source within a mixture, so that equally long sources are not read in step.
        """

    def __repr__(self) -> str:
        """Class and options: what a resumed run compares."""
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in sorted(vars(self).items()))})"


class Sequential(Order):
    """First to last, every epoch."""

    def arrange(self, stretches: Sequence[int], seed: int, number: int = 0) -> Arrangement:
        """The indices themselves."""
        return _InOrder(sum(stretches))


class BlockShuffle(Order):
    """Near-sequential reads, well mixed: the default.

    Every stretch (shard) is cut into blocks of consecutive samples; the blocks of the whole source are permuted; the
    samples of each `window` consecutive blocks are permuted among themselves. A source of up to block * window samples
    is shuffled completely.

    Args:
        block: samples that are read from one place; smaller mixes neighbours on disk better.
        window: blocks whose samples are mixed; the memory is 8 bytes per sample of a window.
    """

    def __init__(self, block: int = 256, *, window: int = 256) -> None:
        if block < 1 or window < 1:
            raise ValueError(f"BlockShuffle(block={block}, window={window}): both must be at least 1.")
        self.block = block
        self.window = window

    def arrange(self, stretches: Sequence[int], seed: int, number: int = 0) -> Arrangement:
        """Blocks and windows over these stretches."""
        return _Blocks(stretches, self.block, self.window, (seed, number))


class FullShuffle(Order):
    """Every sample anywhere: random reads, for data in memory or on fast local disks. Needs no memory at any size."""

    def arrange(self, stretches: Sequence[int], seed: int, number: int = 0) -> Arrangement:
        """A keyed permutation over all samples."""
        return _Feistel(sum(stretches), (seed, number))


class _InOrder(Arrangement):
    def __init__(self, length: int) -> None:
        self.length = length

    def indices(self, epoch: int, start: int, stop: int) -> np.ndarray:
        return np.arange(start, stop)


class _Blocks(Arrangement):
    def __init__(self, stretches: Sequence[int], block: int, window: int, seeds: tuple[int, int]) -> None:
        lengths = np.asarray(stretches, np.int64)
        self._stretch_stop = np.cumsum(lengths)
        self._block_stop = np.cumsum(-(-lengths // block))  # in blocks, per stretch
        self.length = int(self._stretch_stop[-1]) if len(lengths) else 0
        self._block, self._window, self._seeds = block, window, seeds
        self._epoch = lru_cache(maxsize=1)(self._permute_blocks)
        self._ids = lru_cache(maxsize=2)(self._permute_window)

    def __getstate__(self) -> tuple:
        return np.diff(self._stretch_stop, prepend=0), self._block, self._window, self._seeds

    def __setstate__(self, state: tuple) -> None:
        self.__init__(*state)

    def indices(self, epoch: int, start: int, stop: int) -> np.ndarray:
        _, window_start = self._epoch(epoch)
        pieces = []
        window = int(np.searchsorted(window_start, start, "right")) - 1
        while start < stop:
            offset = start - int(window_start[window])
            piece = self._ids(epoch, window)[offset : offset + stop - start]
            pieces.append(piece)
            start, window = start + len(piece), window + 1
        return np.concatenate(pieces) if pieces else np.empty(0, np.int64)

    def _permute_blocks(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The blocks of an epoch in order, and the place of the first sample of each window."""
        blocks = permutation(int(self._block_stop[-1]), "blocks", *self._seeds, epoch)
        starts, stops = self._extent(blocks)
        stop_of_block = np.cumsum(stops - starts)
        window_stop = np.append(stop_of_block[self._window - 1 : -1 : self._window], self.length)
        return blocks.astype(np.uint32 if len(blocks) < 2**32 else np.int64), np.insert(window_stop, 0, 0)

    def _permute_window(self, epoch: int, window: int) -> np.ndarray:
        blocks = self._epoch(epoch)[0][window * self._window : (window + 1) * self._window]
        ids = np.concatenate([np.arange(*extent) for extent in zip(*self._extent(blocks), strict=True)])
        return ids[permutation(len(ids), "window", *self._seeds, epoch, window)]

    def _extent(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First index of every block, and one past its last."""
        blocks = blocks.astype(np.int64)
        stretch = np.searchsorted(self._block_stop, blocks, "right")
        first_block = np.insert(self._block_stop, 0, 0)[stretch]
        start = np.insert(self._stretch_stop, 0, 0)[stretch] + (blocks - first_block) * self._block
        return start, np.minimum(start + self._block, self._stretch_stop[stretch])


class _Feistel(Arrangement):
    """Eight rounds of a Feistel network over the next even power of two, walked until the value lies in range."""

    _ROUNDS = 8

    def __init__(self, length: int, seeds: tuple[int, int]) -> None:
        self.length = length
        self._seeds = seeds
        self._half_bits = np.uint64(max(1, -(-max(1, length - 1).bit_length() // 2)))

    def indices(self, epoch: int, start: int, stop: int) -> np.ndarray:
        values = np.arange(start, stop, dtype=np.uint64)
        outside = np.ones(len(values), bool)
        while outside.any():
            values[outside] = self._permute(values[outside], epoch)
            outside = values >= self.length
        return values.astype(np.int64)

    def _permute(self, values: np.ndarray, epoch: int) -> np.ndarray:
        half = self._half_bits
        mask = (np.uint64(1) << half) - np.uint64(1)
        left, right = values >> half, values & mask
        for turn in range(self._ROUNDS):
            turn_key = np.uint64(key("feistel", *self._seeds, epoch, turn) & (2**64 - 1))
            left, right = right, left ^ (_mixed(right + turn_key) & mask)
        return (left << half) | right


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014), modulo 2**64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
