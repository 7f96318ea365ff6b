"""Ends a run that a signal asks to stop: saved, at the end of a step, on all ranks together."""

import signal
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmfound.errors import Interrupted, Preempted, UserError
from mmfound.runs.agreement import Agreement
from mmfound.runs.checkpoints import Checkpoints
from mmfound.runs.signals import StopSignals


class Stopping(Callback):
    """Stops training at the end of a step, and a validation at the end of a batch, whichever rank got the signal.

    Args:
        signals: what has come.
        agreement: carries it to the other ranks.
        checkpoints: saves; None where nothing is saved.
        alive: called between the batches of evaluators.

    Attributes:
        ended_by: the error to leave with once training has stopped; None while nobody asked.
    """

    def __init__(
        self,
        signals: StopSignals,
        agreement: Agreement,
        checkpoints: Checkpoints | None,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self.signals = signals
        self.agreement = agreement
        self.checkpoints = checkpoints
        self.ended_by: UserError | None = None
        self._alive = alive
        agreement.says["stop"] = lambda: signals.received

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let evaluators stop between their batches."""
        self.ended_by = None
        data: Any = getattr(trainer, "datamodule", None)
        if stage == "fit" and hasattr(data, "between_eval_batches"):
            data.between_eval_batches = lambda: self._between(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning has put handlers of its own in place, which save wherever the process is, or not at all."""
        self.signals.install()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Asked before the first step."""
        self.agreement.now()
        if self.agreement.agreed["stop"]:
            self._stop(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Stop after this step; what is saved is decided after this."""
        if self.agreement.agreed["stop"] and not trainer.fit_loop._should_accumulate():
            self._stop(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Leave the validation, which is then due."""
        if trainer.state.fn == "fit":
            self._leave(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let evaluators be."""
        data: Any = getattr(trainer, "datamodule", None)
        if hasattr(data, "between_eval_batches"):
            data.between_eval_batches = None

    def _between(self, trainer: Trainer) -> None:
        self._alive()
        self.agreement.exchange()
        self._leave(trainer)

    def _leave(self, trainer: Trainer) -> None:
        if not self.agreement.agreed["stop"]:
            return
        self._note()
        if self.checkpoints is not None:
            self.checkpoints.save_before_validation(trainer)
        assert self.ended_by is not None
        raise self.ended_by

    def _stop(self, trainer: Trainer) -> None:
        self._note()
        trainer.should_stop = True
        trainer.fit_loop.min_epochs, trainer.fit_loop.epoch_loop.min_steps = 0, None  # they would be waited for
        trainer.limit_val_batches = 0

    def _note(self) -> None:
        number = self.agreement.agreed["stop"]
        name = signal.Signals(number).name
        if number == signal.SIGINT:
            self.ended_by = Interrupted("interrupted from the keyboard; saved, the same command goes on")
        else:
            self.ended_by = Preempted(f"stopped by {name}; saved, the same command goes on")
