"""`summary.json`: how a run ended, for people and scripts."""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmfound.errors import Interrupted, Preempted, UserError

NAME = "summary.json"


def read(run: Path) -> dict[str, Any]:
    """The summary of a run folder, empty when there is none."""
    path = run / NAME
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def write(run: Path, summary: Mapping[str, Any]) -> None:
    """Replace the summary of a run folder at once."""
    run.mkdir(parents=True, exist_ok=True)
    temporary = run / (NAME + ".tmp")
    temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, run / NAME)


def numbers(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics as plain numbers that JSON can hold; those that are not finite become null."""
    plain = {name: float(value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else None for name, value in sorted(plain.items())}


class Summary(Callback):
    """Writes the summary when training ends, in whatever way.

    Args:
        run: the run folder.
        totals: steps, samples, seconds, samples_per_second and data_wait_share when called, as `RunLog.totals`.
        ended_by: what stopped training before its last step, when called after the end.
    """

    def __init__(
        self,
        run: Path,
        totals: Callable[[], Mapping[str, float]],
        ended_by: Callable[[], UserError | None] = lambda: None,
    ) -> None:
        self.run = run
        self.totals = totals
        self.ended_by = ended_by
        self._started = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there is something to sum up; a killed run leaves this."""
        self._started = True
        if trainer.is_global_zero:
            write(self.run, {**read(self.run), "exit_reason": "running", "exit_code": None})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training ended by itself, or was asked to."""
        error = self.ended_by()
        if error is not None:
            self._write(trainer, _reason(error), error.exit_code)
            return
        self._write(trainer, "running", None)  # until the export is written

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All is done; the last of the callbacks."""
        if trainer.is_global_zero and self._started and self.ended_by() is None:
            reached = 0 < trainer.max_steps <= trainer.global_step
            reason = "max_steps" if reached else "stopped" if trainer.should_stop else "max_epochs"
            write(self.run, {**read(self.run), "exit_reason": reason, "exit_code": 0})

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Training was broken off."""
        self._write(trainer, _reason(exception), exception.exit_code if isinstance(exception, UserError) else 1)

    def _write(self, trainer: Trainer, reason: str, code: int | None) -> None:
        if not trainer.is_global_zero or not self._started:
            return
        ended = {"metrics": numbers(trainer.callback_metrics), "steps": trainer.global_step}
        totals = {name: round(value, 4) for name, value in self.totals().items() if name != "steps"}
        write(self.run, {**read(self.run), **ended, "exit_reason": reason, "exit_code": code, **totals})


def _reason(error: BaseException) -> str:
    if isinstance(error, (KeyboardInterrupt, Interrupted)):
        return "interrupted"
    first = str(error).splitlines()[0] if str(error) else ""
    return f"preempted: {first}" if isinstance(error, Preempted) else f"{type(error).__name__}: {first}"
