"""When a run saves."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from mmfound.callbacks.divergence import Divergence
from mmfound.callbacks.ema import own_weights
from mmfound.errors import ConfigError, GoesBack, LockedError
from mmfound.runs.agreement import Agreement
from mmfound.runs.checkpoint_io import FACTS, DurableIO
from mmfound.runs.failing import Failing
from mmfound.runs.saved import FOLDER, Kind, Saving, step_of, tidy


class OthersFound(GoesBack):
    """Ranks have found other checkpoints, the oldest of them at `step`; below zero where one has found none."""

    def __init__(self, step: int) -> None:
        super().__init__(f"ranks have found different checkpoints, the oldest at step {step}")
        self.step = step


class Checkpoints(Checkpoint):
    """Saves `checkpoints/step=N.ckpt` as `Saving` says, and after the last step.

    Where a validation follows the step, saving waits for it: Lightning leaves that validation out when it resumes. A
    run that is stopped before or in a validation notes that it is due, and it comes first when the run goes on.
    `last.ckpt` links to the newest, `best.ckpt` to the best.

    Args:
        run: the run folder.
        saving: when, and what stays.
        agreement: of the ranks on what is done at this step.
        divergence: speaks up when what is to be saved is not finite.
        failing: ends the run where one rank cannot save.
        every_n_steps: where `saving` does not say.
    """

    def __init__(
        self,
        run: Path,
        saving: Saving,
        agreement: Agreement,
        divergence: Divergence,
        failing: Failing,
        every_n_steps: int = 500,
    ) -> None:
        super().__init__()
        self.folder = run / FOLDER
        self.divergence = divergence
        self.failing = failing
        self.saving = saving
        self.every_n_steps = saving.every_n_steps or every_n_steps
        self.agreement = agreement
        self.found: Path | None = None  # that this start goes on from
        self._saved_step = 0  # nothing to save before the first step
        self._saved_at = time.monotonic()
        self._waits = False  # for the validation that follows
        self._best: float | None = None
        self._note: dict[str, Any] = {}
        self._validation_due = False
        agreement.says["save"] = self._minutes_are_over

    def state_dict(self) -> dict[str, Any]:
        """The best so far, and whether a validation is due first."""
        return {"best": self._best, "validation_due": self._validation_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on."""
        self._best, self._validation_due = state_dict["best"], state_dict["validation_due"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See that all ranks go on from the same one. Prune when a checkpoint is safe, not before."""
        mine = None if self.found is None else step_of(self.found)
        steps = [-1 if step is None else step for step in self.agreement.gathered(mine)]
        if len(set(steps)) > 1:
            raise OthersFound(min(steps))
        io = _io(trainer)
        if io is not None:
            io.on_published = lambda path: tidy(path, self.saving)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where a run goes on, its checkpoint is there already; a validation that was due comes first."""
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        if self._validation_due and trainer.enable_validation:
            self._validation_due = False
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """The log of the step before is written."""
        self._publish(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Save when due, unless a validation follows."""
        step = trainer.global_step
        if step == self._saved_step or trainer.fit_loop._should_accumulate():
            return
        if self.agreement.agreed["stop"]:
            self._validation_due = self._validation_was_to_follow(trainer)
            self._save(trainer, "stopped")
            return
        last = 0 < trainer.max_steps <= step
        due = last or step % self.every_n_steps == 0 or bool(self.agreement.agreed["save"])
        if not (self._waits or due):
            return
        self._waits = self._validation_follows(trainer)
        if not self._waits:
            self._save(trainer, "last" if last else "interval")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The log of the step is written."""
        self._publish(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what waited for it, and the best."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        is_best = self._is_best(trainer)
        if self._waits or is_best:
            last = 0 < trainer.max_steps <= trainer.global_step
            self._save(trainer, "best" if is_best else "last" if last else "interval")
            self._publish(trainer)
        if self.saving.monitor and self.saving.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise ConfigError(f"checkpoints.monitor is {self.saving.monitor!r}, which is not logged; there are {known}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The log of the step is written."""
        self._publish(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step, however the run ended, and wait until it is safe."""
        if trainer.global_step != self._saved_step:
            self._save(trainer, "last")
        self._publish(trainer)
        self._settle(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """What was saved is good, whatever came after it, unless the folder is another run's by now."""
        if not isinstance(exception, LockedError):
            self._publish(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """What the manifest repeats; a validation broken off is done again from its start."""
        checkpoint[FACTS] = {"step": trainer.global_step, "epochs": trainer.current_epoch, **self._note}
        if not self._validation_due:
            return
        loops = checkpoint["loops"]["fit_loop"]
        for count in ("total", "current"):
            validation = loops["epoch_loop.val_loop.batch_progress"]
            validation[count] = dict.fromkeys(validation[count], 0)
            # As at the end of the step: with the step complete and the validation done, a resumed loop never goes on.
            training = loops["epoch_loop.batch_progress"]
            training[count]["completed"] = training[count]["processed"] - 1

    def save_before_validation(self, trainer: Trainer) -> None:
        """Save, from within a validation, what was before it."""
        if trainer.global_step != self._saved_step:  # else the one on the disk says so already
            self._validation_due = True
            self._save(trainer, "stopped")
        self._publish(trainer)
        self._settle(trainer)

    def _save(self, trainer: Trainer, kind: Kind) -> None:
        self._waits = False
        self._saved_at = time.monotonic()  # before the ranks exchange whether it is time to save
        self.agreement.now()
        self.divergence.act()
        self.failing.act()
        self._saved_step = trainer.global_step
        self._note = {"kind": kind, **self._monitored(trainer), "written": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        with own_weights(trainer):
            trainer.save_checkpoint(self.folder / f"step={trainer.global_step:08d}.ckpt")

    def _publish(self, trainer: Trainer) -> None:
        """Give the checkpoint in the making its name, once the log up to it is on the disk."""
        io = _io(trainer)
        if io is not None and io.is_held:
            for logger in trainer.loggers:
                logger.save()
            io.publish()

    def _settle(self, trainer: Trainer) -> None:
        """Wait until what was saved is safe, on all ranks."""
        io = _io(trainer)
        if io is not None:
            io.settle()
        self.agreement.now()
        self.failing.act()

    def _validation_follows(self, trainer: Trainer) -> bool:
        loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        if fetcher is None or not trainer.enable_validation:
            return False
        if not loop._should_check_val_fx(fetcher):
            return False
        loop.val_loop.setup_data()  # or it does not know yet whether there is anything to validate
        return not loop.val_loop.skip

    def _validation_was_to_follow(self, trainer: Trainer) -> bool:
        """Whether it would, had the run not been stopped; Lightning validates where a run stops."""
        now = trainer.limit_val_batches, trainer.should_stop
        trainer.limit_val_batches, trainer.should_stop = now[0] or 1.0, False
        try:
            return self._validation_follows(trainer)
        finally:
            trainer.limit_val_batches, trainer.should_stop = now

    def _minutes_are_over(self) -> int:
        minutes = self.saving.every_n_minutes
        return int(minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes)

    def _monitored(self, trainer: Trainer) -> dict[str, float]:
        value = trainer.callback_metrics.get(self.saving.monitor or "")
        return {} if value is None else {"monitor": float(value)}

    def _is_best(self, trainer: Trainer) -> bool:
        value = self._monitored(trainer).get("monitor")
        if value is None or not self.saving.better(value, self._best):
            return False
        self._best = value
        return True


def _io(trainer: Trainer) -> DurableIO | None:
    """What writes the checkpoints of this run, where it is ours."""
    io = getattr(trainer.strategy, "checkpoint_io", None)
    return io if isinstance(io, DurableIO) else None
