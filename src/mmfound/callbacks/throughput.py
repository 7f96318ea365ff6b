"""Samples per second and the share of time spent waiting for data."""

from collections.abc import Mapping
from time import monotonic
from typing import Any

from lightning.pytorch import Trainer


class Throughput:
    """Counts samples and seconds of training, evaluations left out.

    Args:
        samples: counted before.
        seconds: counted before.
        waited: seconds waited for data before.
    """

    def __init__(self, samples: int = 0, seconds: float = 0.0, waited: float = 0.0) -> None:
        self.samples = samples
        self.seconds = seconds
        self.waited = waited
        self._running_since: float | None = None
        self._waited_until = 0.0

    def run(self, trainer: Trainer) -> None:
        """Start the clock, or go on."""
        self._running_since = monotonic()
        self._waited_until = waited_s(trainer)

    def pause(self, trainer: Trainer) -> None:
        """Stop the clock."""
        self.count(trainer, 0)
        self._running_since = None

    def count(self, trainer: Trainer, samples: int) -> None:
        """Add samples, and the time since the last call."""
        self.samples += samples
        if self._running_since is not None:
            now, waited = monotonic(), waited_s(trainer)
            self.seconds += now - self._running_since
            self.waited += max(0.0, waited - self._waited_until)
            self._running_since, self._waited_until = now, waited

    def since(self, earlier: "Throughput") -> "Throughput":
        """What was counted after a copy was taken."""
        return Throughput(self.samples - earlier.samples, self.seconds - earlier.seconds, self.waited - earlier.waited)

    def copy(self) -> "Throughput":
        """The counts as they are."""
        return Throughput(self.samples, self.seconds, self.waited)

    @property
    def samples_per_second(self) -> float:
        """Over all that was counted; 0 before anything was."""
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def wait_share(self) -> float:
        """Part of the time in which training waited for data, in [0, 1]."""
        return min(1.0, self.waited / self.seconds) if self.seconds else 0.0


def waited_s(trainer: Trainer) -> float:
    """Seconds that the training loader says were waited for it so far; 0 where it does not say."""
    loader = getattr(getattr(trainer, "datamodule", None), "train_loader", None)
    return float(getattr(loader, "waited_s", 0.0))


def samples_in(trainer: Trainer, batch: Any) -> int:
    """Samples of a micro-batch over all ranks."""
    rows = len(batch["key"]) if isinstance(batch, Mapping) and "key" in batch else 0
    return rows * trainer.world_size
