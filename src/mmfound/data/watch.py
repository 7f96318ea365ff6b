"""Whether training waits for data, and what has been unreadable."""

from time import perf_counter
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_warn
from lightning.pytorch import Callback, LightningModule, Trainer

from mmfound.data.loader import TrainLoader

_TOO_MUCH = 0.3


class DataWait(Callback):
    """Warns once when training waits for data much of the time, and says what to change.

    Logs `train/bad_samples`, how many reads of the first process have failed so far. The share itself is logged by
    `mmfound.callbacks.RunLog`.

    Args:
        every_n_steps: optimiser steps between looks.

    Attributes:
        wait_share: of the steps between the last two looks, in [0, 1], validation left out; None before.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        self.every_n_steps = every_n_steps
        self.wait_share: float | None = None
        self._warned = False
        self._since: tuple[float, float] | None = None  # clock and seconds waited, when the window began
        self._paused_at = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the end of a window."""
        loader = getattr(getattr(trainer, "datamodule", None), "train_loader", None)
        if not isinstance(loader, TrainLoader):
            return
        now = (perf_counter(), loader.waited_s)
        if self._since is None:  # the first batch is the workers' start
            self._since = now
            return
        if trainer.fit_loop.epoch_loop._should_accumulate() or trainer.global_step % self.every_n_steps:
            return
        self.wait_share = min(1.0, (now[1] - self._since[1]) / max(now[0] - self._since[0], 1e-9))
        self._since = now
        pl_module.log("train/bad_samples", float(loader.bad.total), batch_size=1)
        self._warn(self.wait_share, loader)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._paused_at = perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on as if no time had passed."""
        if self._since is not None:
            self._since = (self._since[0] + perf_counter() - self._paused_at, self._since[1])

    def _warn(self, share: float, loader: TrainLoader) -> None:
        if share > _TOO_MUCH and not self._warned:
            self._warned = True
            rank_zero_warn(
                f"Training waited for data {share:.0%} of the time, with {loader.workers.count} workers per process. "
                "Raise data.init_args.workers if cores are free; else store the pictures nearer to the size that is "
                "trained on (smaller JPEGs decode faster), or move the data to a faster disk."
            )
