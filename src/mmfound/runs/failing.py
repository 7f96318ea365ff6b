"""Ends a run on all ranks when one of them cannot go on."""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmfound.errors import FailedElsewhere, GoesBack, RunEnded, exit_code, user_error
from mmfound.runs import launched, summary
from mmfound.runs.agreement import Agreement

Look = Callable[[], Exception | None]
_LOOK_S, _PATIENCE_S, _TEARDOWN_S = 5.0, 20.0, 60.0


class Failing(Callback):
    """Raises, on all ranks at the end of the same step, what one rank has met beside the step.

    A checkpoint is written by one rank and by another thread; if only that rank ended, the others would wait for it. A
    rank that fails within a step leaves the others in a collective, which on some devices waits for ever: a thread ends
    them when they have not ended by themselves some time after the failure is known.

    Args:
        run: the run folder.
        agreement: carries it to the other ranks.

    Attributes:
        looks: give the error that this rank is to end with, None while all is well.
    """

    def __init__(self, run: Path, agreement: Agreement) -> None:
        self.looks: list[Look] = []
        self.run = run
        self.agreement = agreement
        self._over = threading.Event()
        agreement.says["failed"] = self._code

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Watch the other ranks, which are there by now."""
        launched.part(trainer)
        self._over.set()  # of a fit that was rolled back
        self._over = threading.Event()
        if trainer.world_size > 1:
            threading.Thread(target=self._watch, args=(trainer, self._over), daemon=True, name="ranks").start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """End after this step."""
        if not trainer.fit_loop._should_accumulate():
            self.act()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A rank that fails by itself may hang in its own teardown, behind what the device still waits for."""
        alone = not isinstance(exception, GoesBack) and not isinstance(user_error(exception), RunEnded)
        if alone and trainer.world_size > 1:
            timer = threading.Timer(_TEARDOWN_S, os._exit, (exit_code(exception),))
            timer.daemon = True
            timer.start()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Watch no more."""
        self._over.set()

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

    def _watch(self, trainer: Trainer, over: threading.Event) -> None:
        known_at: float | None = None
        while not over.wait(_LOOK_S):
            error = summary.failed_elsewhere(self.run, trainer)
            if error is None:
                continue
            known_at = known_at or time.monotonic()
            if time.monotonic() - known_at >= _PATIENCE_S:
                print(f"error: {error}", file=sys.stderr, flush=True)
                os._exit(error.exit_code)
