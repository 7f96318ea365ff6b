"""When a run saves, and which checkpoint it goes on from."""

import os
import re
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

FOLDER = "checkpoints"
_NAME = re.compile(r"step=(\d+)\.ckpt")


def step_of(path: Path) -> int | None:
    """Optimiser steps that a checkpoint's name tells, None for a name that is not ours."""
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else None


def by_step(run: Path) -> dict[int, Path]:
    """Checkpoints of a run folder by their step, in order."""
    found = [(step_of(path), path) for path in (run / FOLDER).glob("step=*.ckpt")]
    return dict(sorted((step, path) for step, path in found if step is not None))


def newest(run: Path) -> Path | None:
    """The checkpoint of a run folder with the most steps."""
    return next(reversed(by_step(run).values()), None)


class Checkpoints(Checkpoint):
    """Saves `checkpoints/step=N.ckpt` after every `every_n_steps` optimiser steps and after the last.

    Where a validation follows the step, saving waits for it: Lightning leaves that validation out when it resumes.
    `last.ckpt` links to the newest.

    Args:
        run: the run folder.
        every_n_steps: optimiser steps between two.
        keep: how many of the newest stay.
    """

    def __init__(self, run: Path, every_n_steps: int, keep: int = 2) -> None:
        super().__init__()
        self.folder = run / FOLDER
        self.every_n_steps = every_n_steps
        self.keep = keep
        self._saved_step = 0  # nothing to save before the first step
        self._waits = False  # for the validation that follows

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Where a run goes on, its checkpoint is there already."""
        self._saved_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Save when due, unless a validation follows."""
        step = trainer.global_step
        if step == self._saved_step:
            return
        last = 0 < trainer.max_steps <= step
        if not (self._waits or last or step % self.every_n_steps == 0):
            return
        loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        self._waits = fetcher is not None and loop._should_check_val_fx(fetcher) and not loop.val_loop.skip
        if not self._waits:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what waited for it."""
        if self._waits and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step, however the run ended."""
        if trainer.global_step != self._saved_step:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        self._waits = False
        self._saved_step = trainer.global_step
        path = self.folder / f"step={trainer.global_step:08d}.ckpt"
        trainer.save_checkpoint(path)
        if trainer.is_global_zero:
            self._link(path)
            for old in list(by_step(self.folder.parent).values())[: -self.keep]:
                old.unlink()

    def _link(self, path: Path) -> None:
        temporary = self.folder / ".last.ckpt"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(path.name)
        os.replace(temporary, self.folder / "last.ckpt")
