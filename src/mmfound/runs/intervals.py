"""Intervals of recipes count optimiser steps, whatever the accumulation."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class StepIntervals(Callback):
    """Makes an integer `val_check_interval` count optimiser steps: Lightning counts micro-batches.

    The accumulation is a machine fact, which the DataModule computes in its `setup`, just before this one's. A run that
    goes on with another one validates at the same steps as before.
    """

    def __init__(self) -> None:
        self._steps: int | None = None
        self._accumulation = 1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Turn steps into micro-batches."""
        self._accumulation = trainer.accumulate_grad_batches
        interval = trainer.val_check_interval
        if stage == "fit" and isinstance(interval, int) and not isinstance(interval, bool):
            self._steps = interval if self._steps is None else self._steps
            trainer.val_check_interval = self._steps * trainer.accumulate_grad_batches

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let a share of an epoch end with a step: a checkpoint in the middle of one would lose its gradients."""
        every, step = trainer.val_check_batch, trainer.accumulate_grad_batches
        if isinstance(trainer.val_check_interval, float) and isinstance(every, int) and every % step:
            trainer.val_check_batch = every + step - every % step

    def state_dict(self) -> dict[str, Any]:
        """Micro-batches per step, in which a checkpoint's progress is counted."""
        return {"accumulation": self._accumulation}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count the progress in this start's micro-batches."""
        before = checkpoint.get("callbacks", {}).get(self.state_key, {}).get("accumulation", self._accumulation)
        if before == self._accumulation or trainer.state.fn != "fit":
            return
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["total"], progress["current"]):
            under_way = counts["processed"] - counts["completed"]  # 1 where it was saved at the end of a step
            now = counts["ready"] // before * self._accumulation
            counts.update(dict.fromkeys(counts, now), completed=now - under_way)
