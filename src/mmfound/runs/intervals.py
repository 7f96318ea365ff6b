"""Intervals of recipes count optimiser steps, whatever the accumulation."""

from lightning.pytorch import Callback, LightningModule, Trainer


class StepIntervals(Callback):
    """Makes an integer `val_check_interval` count optimiser steps: Lightning counts micro-batches.

    The accumulation is a machine fact, which the DataModule computes in its `setup`, just before this one's.
    """

    def __init__(self) -> None:
        self._steps: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Turn steps into micro-batches."""
        interval = trainer.val_check_interval
        if stage == "fit" and isinstance(interval, int) and not isinstance(interval, bool):
            self._steps = interval if self._steps is None else self._steps
            trainer.val_check_interval = self._steps * trainer.accumulate_grad_batches
