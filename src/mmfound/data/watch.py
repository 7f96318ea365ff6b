"""How long training waits for data."""

from time import perf_counter
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_warn
from lightning.pytorch import Callback, LightningModule, Trainer

from mmfound.data.loader import TrainLoader

_TOO_MUCH = 0.3


class DataWait(Callback):
    """Logs the share of time that training waited for data, and warns once when it is large.

    `train/data_wait_share`, in [0, 1], is over the steps since the last log, validation left out; under
    `train/bad_samples` stands how many reads have failed so far. Both are of the first process.

    Args:
        every_n_steps: optimiser steps between logs; None for the trainer's `log_every_n_steps`.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        self.every_n_steps = every_n_steps
        self._warned = False
        self._since: tuple[float, float] | None = None  # clock and seconds waited, when the window began
        self._paused_at = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log at the end of a window."""
        loader = getattr(getattr(trainer, "datamodule", None), "train_loader", None)
        if not isinstance(loader, TrainLoader):
            return
        now = (perf_counter(), loader.waited_s)
        if self._since is None:  # the first batch is the workers' start
            self._since = now
            return
        window = self.every_n_steps or trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        if trainer.fit_loop.epoch_loop._should_accumulate() or not window or trainer.global_step % window:
            return
        share = (now[1] - self._since[1]) / max(now[0] - self._since[0], 1e-9)
        self._since = now
        pl_module.log("train/data_wait_share", min(1.0, share), batch_size=1)
        pl_module.log("train/bad_samples", float(loader.bad.total), batch_size=1)
        self._warn(share, loader)

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
