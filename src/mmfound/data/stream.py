"""The endless stream of samples: position -> which sample of which source, in which epoch."""

from abc import ABC, abstractmethod

import numpy as np

from mmfound.data.order import Arrangement


class Stream(ABC):
    """An endless stream whose every sample is a function of its position.

    Attributes:
        samples: of all its sources.
    """

    samples: int

    @abstractmethod
    def draws(self, start: int, stop: int) -> np.ndarray:
        """[stop - start, 3] int64 (epoch, number of the source, index in it) of the samples at these positions."""

    def converted(self, position: int, old_batch: int, new_batch: int) -> int:
        """The position, a multiple of `new_batch`, at which to go on when the global batch size has changed."""
        return position // new_batch * new_batch


class Passes(Stream):
    """One source, pass after pass; each pass gives whole batches and leaves out what remains.

    Args:
        arrangement: the source in its order.
        batch_size: samples per global batch.
    """

    def __init__(self, arrangement: Arrangement, batch_size: int) -> None:
        self.samples = arrangement.length
        self._arrangement = arrangement
        self._pass_length = self.samples // batch_size * batch_size

    def draws(self, start: int, stop: int) -> np.ndarray:
        """Samples of one or more passes."""
        pieces = []
        while start < stop:
            epoch, place = divmod(start, self._pass_length)
            end = min(place + stop - start, self._pass_length)
            out = np.zeros((end - place, 3), np.int64)
            out[:, 0] = epoch
            out[:, 2] = self._arrangement.indices(epoch, place, end)
            pieces.append(out)
            start += end - place
        return np.concatenate(pieces) if pieces else np.empty((0, 3), np.int64)

    def converted(self, position: int, old_batch: int, new_batch: int) -> int:
        """The last whole batch of the new size in the same pass."""
        passes, place = divmod(position, self.samples // old_batch * old_batch)
        return passes * self._pass_length + min(place // new_batch * new_batch, self._pass_length)
