"""What keeps a run alive and whole: put together once, used by the command line."""

from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop

from mmfound.callbacks.divergence import Divergence
from mmfound.callbacks.watchdog import Watchdog
from mmfound.runs.agreement import Agreement
from mmfound.runs.checkpoint_io import DurableIO
from mmfound.runs.checkpoints import Checkpoints
from mmfound.runs.failing import Failing, Look
from mmfound.runs.recipe_wins import RecipeWins
from mmfound.runs.saved import Saving
from mmfound.runs.signals import StopSignals
from mmfound.runs.stopping import Stopping


@dataclass(frozen=True)
class Upkeep:
    """The callbacks of one fit that belong together; those in `callbacks` are in the order in which they must act."""

    agreement: Agreement
    failing: Failing
    divergence: Divergence
    stopping: Stopping
    checkpoints: Checkpoints | None
    watchdog: Watchdog
    io: DurableIO

    @classmethod
    def of(
        cls,
        run: Path,
        signals: StopSignals,
        lost: Look,
        saving: Saving | None,
        divergence: Divergence,
        every_n_steps: int,
    ) -> "Upkeep":
        """Put together.

        Args:
            run: the run folder.
            signals: what asks the run to stop.
            lost: the error to end with when the run folder is another process's by now.
            saving: when to save; None for a run that saves nothing.
            divergence: what to do about losses that are not finite.
            every_n_steps: between two checkpoints where `saving` does not say.
        """
        agreement = Agreement()
        failing, io = Failing(run, agreement), DurableIO()
        failing.looks += [lost, lambda: io.error]
        checkpoints = saving and Checkpoints(run, saving, agreement, divergence, failing, every_n_steps)
        watchdog = Watchdog(run)
        stopping = Stopping(signals, agreement, checkpoints, watchdog.alive)
        return cls(agreement, failing, divergence, stopping, checkpoints, watchdog, io)

    @property
    def callbacks(self) -> list[Callback]:
        """Lightning moves `checkpoints` behind all others."""
        first = [RecipeWins(), self.agreement, self.failing]
        found = [*first, self.divergence, self.stopping, self.watchdog, self.checkpoints]
        return [callback for callback in found if callback is not None]

    def goes_on_from(self, checkpoint: Path | None) -> None:
        """Say which checkpoint this rank has found, for the ranks to compare."""
        if self.checkpoints is not None:
            self.checkpoints.found = checkpoint

    def end_again(self, trainer: Trainer) -> None:
        """Let a fit without a step left do what follows the last one: Lightning would return at once."""
        trainer.fit_loop.__class__ = _Ends

    def attach(self, trainer: Trainer) -> None:
        """Let the trainer write checkpoints our way.

        Lightning's handlers would save wherever a signal finds the process, and exchange messages with other ranks from
        within the handler.
        """
        trainer._signal_connector.register_signal_handlers = lambda: None
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # would wait for the device at every step
        trainer.strategy.checkpoint_io = self.io


class _Ends(_FitLoop):
    """Begins and ends with nothing in between."""

    @property
    def skip(self) -> bool:
        return False
