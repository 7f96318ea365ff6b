"""Training to the end, going back to checkpoints on the way."""

from collections.abc import Callable
from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from mmfound.callbacks.divergence import RolledBack
from mmfound.cli import start
from mmfound.cli.report import say
from mmfound.errors import DivergedError, user_error
from mmfound.runs import saved, summary
from mmfound.runs.checkpoints import OthersFound
from mmfound.runs.upkeep import Upkeep


class Fitting:
    """A fit that goes back to a checkpoint as often as the recipe allows.

    Args:
        trainer: calls the hooks.
        module: what is trained.
        data: what it is trained on.
        run_folder: where its checkpoints are.
    """

    def __init__(self, trainer: Trainer, module: LightningModule, data: LightningDataModule, run_folder: Path) -> None:
        self.trainer = trainer
        self.module = module
        self.data = data
        self.run_folder = run_folder

    def run(self, keeps: Upkeep, checkpoint: Path | None, fit_from: Callable[[Path | None], None]) -> None:
        """Train until the end.

        Args:
            keeps: what saves the run.
            checkpoint: what to go on from.
            fit_from: calls the trainer with the weights of a checkpoint.
        """
        modes = [(part, part.training) for part in self.module.modules()]
        while True:
            keeps.goes_on_from(checkpoint)
            try:
                return fit_from(checkpoint)
            except OthersFound as others:
                checkpoint = start.older(self.run_folder, others.step)
                self._rewind(checkpoint)
                say(f"a newer checkpoint is damaged; going on from {checkpoint}")
            except RolledBack as back:
                checkpoint = self._roll_back(back)
                for part, training in modes:  # it may have come out of a validation
                    part.training = training
            except Exception as error:
                elsewhere = summary.failed_elsewhere(self.run_folder, self.trainer)
                if user_error(error) is not None or elsewhere is None:
                    raise
                raise elsewhere from None  # what was met is the end of the connection to that rank

    def _roll_back(self, back: RolledBack) -> Path:
        """Take up the newest checkpoint, and leave out what went wrong after it."""
        self.trainer.strategy.barrier("rolled back")
        checkpoint, _ = saved.newest_good(self.run_folder)
        if checkpoint is None:
            raise DivergedError(f"{back}, and there is no checkpoint yet to go back to. Lower the learning rate")
        skip = getattr(self.data, "skip", None)
        if skip is None:
            raise DivergedError(f"{back}, and {type(self.data).__name__} cannot leave samples out; use policy stop")
        skip(back.position)
        self._rewind(checkpoint)
        say(f"{back}\nback to {checkpoint}; the batch at {back.position} is left out from now on")
        return checkpoint

    def _rewind(self, checkpoint: Path | None) -> None:
        """Take back what was logged after the checkpoint."""
        for logger in self.trainer.loggers:
            rewind = getattr(logger, "rewind", None)
            if rewind is not None:
                rewind((saved.step_of(checkpoint) if checkpoint else None) or 0)
