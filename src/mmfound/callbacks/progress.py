"""How far the run is: a bar on a terminal, lines elsewhere."""

import sys
from time import monotonic
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from mmfound.callbacks.throughput import Throughput, samples_in


class Progress(ProgressBar):
    """Steps, time left, loss, samples/s and the share of time spent waiting for data.

    Args:
        every_s: seconds between lines, or a fifth of that between updates of the bar.
        lines: plain lines instead of a bar; by default where standard output is no terminal, as under Slurm.
    """

    def __init__(self, every_s: float = 10.0, lines: bool | None = None) -> None:
        super().__init__()
        self.every_s = every_s
        self.lines = (not sys.stdout.isatty()) if lines is None else lines
        self._enabled = True
        self._bar: Bar | None = None
        self._row = TaskID(0)
        self._all = Throughput()
        self._window = Throughput()
        self._shown_at = 0.0
        self._first_step = self._first_at = 0.0

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        print(*args, **kwargs) if self._bar is None else self._bar.console.print(*args)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Only the first rank shows anything."""
        super().setup(trainer, pl_module, stage)
        if not trainer.is_global_zero:
            self.disable()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        self._first_step, self._first_at = trainer.global_step, monotonic()
        self._all, self._window = Throughput(), Throughput()
        self._all.run(trainer)
        self._shown_at = monotonic()
        if self._enabled and not self.lines:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
            self._bar = Bar(*columns, TimeRemainingColumn(), refresh_per_second=2)
            self._row = self._bar.add_task("training", total=_total(trainer), completed=trainer.global_step, told="")
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell, when it is time."""
        self._all.count(trainer, samples_in(trainer, batch))
        pause = self.every_s if self.lines else self.every_s / 5
        if monotonic() - self._shown_at >= pause or trainer.global_step == _total(trainer):
            self._show(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluations are not throughput."""
        if trainer.state.fn == "fit":
            self._all.pause(trainer)
            self._describe("evaluating")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on; tell the scores."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._describe("training")
            if self._enabled:
                scores = {name: v for name, v in trainer.callback_metrics.items() if name.startswith("val/")}
                told = ", ".join(f"{name} {float(value):.4g}" for name, value in scores.items())
                self.print(f"step {trainer.global_step}: {told}")
            self._all.run(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the bar away, so that the terminal is as before."""
        self._close()

    def _show(self, trainer: Trainer) -> None:
        self._shown_at = monotonic()
        window, self._window = self._all.since(self._window), self._all.copy()
        if not self._enabled:
            return
        total = _total(trainer)
        told = [f"step {trainer.global_step}" + (f"/{total}" if total else "")]
        loss = trainer.callback_metrics.get("train/loss")
        told += [f"loss {float(loss):.4f}"] if loss is not None else []
        told += [f"{window.samples_per_second:.0f} samples/s", f"{window.wait_share:.0%} waiting for data"]
        if self._bar is not None:
            self._bar.update(self._row, completed=trainer.global_step, told=", ".join(told))
        else:
            print(", ".join([*told, f"{self._left(trainer.global_step, total)} left"]), flush=True)

    def _left(self, step: int, total: int | None) -> str:
        done = step - self._first_step
        if not done or not total:
            return "?"
        seconds = round((monotonic() - self._first_at) / done * (total - step))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def _describe(self, what: str) -> None:
        if self._bar is not None:
            self._bar.update(self._row, description=what)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _total(trainer: Trainer) -> int | None:
    """Optimiser steps of the run, None where it has no end."""
    total = trainer.max_steps if trainer.max_steps > 0 else trainer.estimated_stepping_batches
    return int(total) if total != float("inf") else None
