"""`summary.json`: how a run ended, for people and scripts."""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mmfound.distributed import world_size
from mmfound.errors import (
    FailedElsewhere,
    GoesBack,
    Interrupted,
    LockedError,
    Preempted,
    RunEnded,
    UserError,
    exit_code,
    user_error,
)
from mmfound.runs import launched

NAME = "summary.json"
_METRICS = "metrics"  # in a checkpoint
FAILED_RANK = "failed_rank"  # the first one that failed, where they did not end together
_DEATH_S = 1.0  # from the end of a connection to the end of the process


def read(run: Path) -> dict[str, Any]:
    """The summary of a run folder, empty when there is none."""
    path = run / NAME
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def write(run: Path, summary: Mapping[str, Any], rank: int = 0) -> None:
    """Replace the summary of a run folder at once; ranks may do so at the same time."""
    run.mkdir(parents=True, exist_ok=True)
    temporary = run / f".{NAME}.{rank}"
    temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, run / NAME)


def begin(run: Path) -> None:
    """Forget which rank has failed in an earlier start."""
    found = read(run)
    if found.pop(FAILED_RANK, None) is not None:
        write(run, found)


def note_failure(run: Path, error: BaseException) -> None:
    """Write down what ended a start outside of training."""
    write(run, {**read(run), "exit_reason": _reason(error), "exit_code": exit_code(error)})


def failed_elsewhere(run: Path, trainer: Trainer) -> FailedElsewhere | None:
    """The error to end with on a rank that loses the others because one of them has failed; None when none has."""
    found = read(run)
    rank, code = found.get(FAILED_RANK, trainer.global_rank), found.get("exit_code")
    if rank != trainer.global_rank and code is not None:
        return FailedElsewhere(f"rank {rank} has failed: {found.get('exit_reason')}", int(code))
    dead = launched.death(trainer)
    return None if dead is None else FailedElsewhere(f"rank {dead[0]} {dead[1]}", 1)


def numbers(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics as plain numbers that JSON can hold; those that are not finite become null."""
    plain = {name: float(value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else None for name, value in sorted(plain.items())}


class Summary(Callback):
    """Writes the summary when training ends, in whatever way.

    The first rank writes it. Another one that fails by itself writes its reason and exit code, which launchers mask.

    Args:
        run: the run folder.
        totals: steps, samples, seconds, samples_per_second and data_wait_share when called, as `RunLog.totals`.
        ended_by: what stopped training before its last step, when called after the end.

    Attributes:
        started: whether training has begun.
        has_ended: whether the summary says how it has ended.
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
        self.has_ended = False
        self.started = False
        self._metrics: dict[str, float | None] = {}  # of the checkpoint that this start goes on from

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """What was last logged, for a run that goes on too late to log it again."""
        checkpoint[_METRICS] = numbers(trainer.callback_metrics)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note them."""
        self._metrics = checkpoint.get(_METRICS, {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there is something to sum up; a killed run leaves this."""
        known = {name: torch.tensor(value) for name, value in self._metrics.items() if value is not None}
        trainer.callback_metrics.update(known)  # there may be no validation left that would log them
        if trainer.is_global_zero:
            begin(self.run)
            write(self.run, {**read(self.run), "exit_reason": "running", "exit_code": None})
        trainer.strategy.barrier("summary")  # what another rank writes comes after this
        self.started, self.has_ended = True, False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training ended by itself, or was asked to."""
        error = self.ended_by()
        ended = {"exit_reason": "running", "exit_code": None}  # until the export is written
        if error is not None:
            ended, self.has_ended = {"exit_reason": _reason(error), "exit_code": error.exit_code}, True
        if trainer.is_global_zero:
            self._write(trainer, ended)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All is done; the last of the callbacks."""
        self.has_ended = True
        if trainer.is_global_zero and self.started and self.ended_by() is None:
            reached = 0 < trainer.max_steps <= trainer.global_step
            reason = "max_steps" if reached else "stopped" if trainer.should_stop else "max_epochs"
            write(self.run, {**read(self.run), "exit_reason": reason, "exit_code": 0})

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Training was broken off, or did not begin."""
        if isinstance(exception, GoesBack):
            return
        self.has_ended = True
        rank, mine = trainer.global_rank, user_error(exception)
        if isinstance(mine, LockedError) or rank and world_size() == 1:  # the folder is another run's, or nobody's yet
            return
        ended = {"exit_reason": _reason(exception), "exit_code": exit_code(exception)}
        if trainer.world_size > 1 and not isinstance(mine, RunEnded):
            ended[FAILED_RANK] = rank
            if mine is None and not self._is_first_to_fail(trainer, ended):
                return
        if trainer.is_global_zero and self.started:
            self._write(trainer, ended)
        elif trainer.is_global_zero or FAILED_RANK in ended:
            write(self.run, {**read(self.run), **ended}, rank)

    def _is_first_to_fail(self, trainer: Trainer, ended: dict[str, Any]) -> bool:
        """False where another rank has written why; one that was killed could not, and this one writes that."""
        if failed_elsewhere(self.run, trainer) is not None and read(self.run).get(FAILED_RANK) is not None:
            return False
        time.sleep(_DEATH_S)
        dead = launched.death(trainer)
        if dead is not None:
            ended |= {FAILED_RANK: dead[0], "exit_reason": dead[1]}
        return True

    def _write(self, trainer: Trainer, ended: Mapping[str, Any]) -> None:
        found = {"metrics": numbers(trainer.callback_metrics), "steps": trainer.global_step}
        totals = {name: round(value, 4) for name, value in self.totals().items() if name != "steps"}
        write(self.run, {**read(self.run), **found, **ended, **totals})


def _reason(error: BaseException) -> str:
    error = user_error(error) or error
    if isinstance(error, (KeyboardInterrupt, Interrupted)):
        return "interrupted"
    first = str(error).splitlines()[0] if str(error) else ""
    return f"preempted: {first}" if isinstance(error, Preempted) else f"{type(error).__name__}: {first}"
