"""Ends a run on all ranks when one of them cannot keep it any longer."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmfound.callbacks.divergence import RolledBack
from mmfound.errors import FailedElsewhere, exit_code
from mmfound.runs import launched
from mmfound.runs.agreement import Agreement

Look = Callable[[], Exception | None]


class Failing(Callback):
    """Raises, on all ranks at the end of the same step, what one rank has met beside the step.

    A checkpoint is written by one rank and by another thread; if only that rank ended, the others would wait for it.

    Args:
        agreement: carries it to the other ranks.

    Attributes:
        looks: give the error that this rank is to end with, None while all is well.
    """

    def __init__(self, agreement: Agreement) -> None:
        self.looks: list[Look] = []
        self.agreement = agreement
        agreement.says["failed"] = self._code

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """End after this step."""
        if not trainer.fit_loop._should_accumulate():
            self.act()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """This rank ends by itself from here on, with its own exit code."""
        if not isinstance(exception, RolledBack):
            launched.part(trainer)

    def act(self) -> None:
        """Raise what this rank or another has met, if the ranks have agreed on it.

        Raises:
            Exception: what this rank has met.
            FailedElsewhere: where another has.
        """
        code = self.agreement.agreed["failed"]
        if code:
            raise self._error() or FailedElsewhere("another rank could not go on; see its message", code)

    def _error(self) -> Exception | None:
        return next((error for look in self.looks if (error := look()) is not None), None)

    def _code(self) -> int:
        error = self._error()
        return 0 if error is None else exit_code(error)
