"""The endless stream of samples: position -> which sample of which source, in which epoch."""

from abc import ABC, abstractmethod

import numpy as np

from mmfound.data.order import Arrangement
from mmfound.errors import ConfigError


class Stream(ABC):
    """An endless stream whose every sample is a function of its position.

    Attributes:
        pass_length: samples of what counts as one pass.
    """

    pass_length: int

    @abstractmethod
    def draws(self, start: int, stop: int) -> np.ndarray:
        """[stop - start, 3] int64 (epoch, number of the source, index in it) of the samples at these positions."""


class Passes(Stream):
    """One source, pass after pass; each pass gives whole batches and leaves out what remains.

    Args:
        arrangement: the source in its order.
        batch_size: samples per global batch.

    Raises:
        ConfigError: when a batch is larger than the source.
    """

    def __init__(self, arrangement: Arrangement, batch_size: int) -> None:
        self.pass_length = arrangement.length // batch_size * batch_size
        self._arrangement = arrangement
        if not self.pass_length:
            raise ConfigError(
                f"data.init_args.global_batch_size is {batch_size}, but the training source has only "
                f"{arrangement.length} samples; lower it to at most {arrangement.length} or use more data."
            )

    def draws(self, start: int, stop: int) -> np.ndarray:
        """Samples of one or more passes."""
        pieces = []
        while start < stop:
            epoch, place = divmod(start, self.pass_length)
            end = min(place + stop - start, self.pass_length)
            out = np.zeros((end - place, 3), np.int64)
            out[:, 0] = epoch
            out[:, 2] = self._arrangement.indices(epoch, place, end)
            pieces.append(out)
            start += end - place
        return np.concatenate(pieces) if pieces else np.empty((0, 3), np.int64)
