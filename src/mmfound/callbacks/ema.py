"""Exponential moving average of the weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from mmfound.errors import ConfigError, GoesBack, RunEnded, user_error
from mmfound.strategies.weights import Weight, trained_weights

KEY = "ema"  # in a checkpoint


class Ema(Callback):
    """Averages all trainable weights and floating-point buffers over steps, and evaluates and exports with the average.

    After step t, average = d average + (1 - d) weights with d = min(decay, (1 + t) / (10 + t)): without that warm-up
    the first weights would weigh in for 1 / (1 - decay) steps. Checkpoints hold the weights under their own names and
    the average under `ema`, whichever of them the model has at that moment.

    Args:
        decay: d in the long run, in [0, 1).
        warmup: let d grow.
        evaluate: validate and export with the average.

    Source: Polyak & Juditsky 1992; the warm-up is TensorFlow's `num_updates` rule.
    """

    def __init__(self, decay: float = 0.9999, warmup: bool = True, evaluate: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"Ema: decay is {decay}; it must lie in [0, 1).")
        self.decay = decay
        self.warmup = warmup
        self.evaluate = evaluate
        self.steps = 0
        self.average: dict[str, Tensor] = {}  # this rank's pieces, in float32
        self._found: dict[str, Tensor] = {}  # whole, in a checkpoint
        self._weights: dict[str, Tensor] | None = None  # while the model has the average

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the weights, unless a checkpoint has brought an average.

        Not sooner: some strategies have set up the weights, and read the checkpoint, only by now.
        """
        own = trained_weights(pl_module)
        if self._found:
            if self._found.keys() != own.keys():
                odd = sorted(self._found.keys() ^ own.keys())
                raise ConfigError(f"Ema: the checkpoint's average does not fit the model, which differs in {odd[0]}.")
            self.average = {name: own[name].part(whole).clone() for name, whole in self._found.items()}
            self._found = {}
        elif not self.average:
            self.average = {name: weight.master.to(_wide(weight.master), copy=True) for name, weight in own.items()}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Move the average, once per optimiser step."""
        if trainer.global_step == self.steps:
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.warmup else self.decay
        with torch.no_grad():
            own = trained_weights(pl_module)
            averages = [(name, average) for name, average in self.average.items() if average.numel()]
            if not averages:  # of a small model, every piece may be another rank's
                return
            weights = [own[name].master.to(average.dtype) for name, average in averages]
            torch._foreach_lerp_([average for _, average in averages], weights, 1 - decay)

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """The model has the average within; a checkpoint saved meanwhile still has both under their own names."""
        self._swap_in(module)
        try:
            yield
        finally:
            self._swap_out(module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the average."""
        if trainer.state.fn == "fit" and self.evaluate and self.average:
            self._swap_in(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train on."""
        self._swap_out(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last evaluation and the export are of the average."""
        if self.evaluate and self.average:
            self._swap_in(pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The model is the user's again."""
        self._swap_out(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A validation may have been broken off; where this rank fails alone, no other would answer it."""
        if isinstance(exception, GoesBack) or isinstance(user_error(exception), RunEnded):
            self._swap_out(pl_module)
        self._weights = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Weights under their names and the average, put together on the first rank, under `ema`."""
        own = trained_weights(pl_module)
        if self._weights is not None:  # of whole weights; those that are split are saved as they are, see `own_weights`
            checkpoint["state_dict"].update({n: t for n, t in self._weights.items() if type(own[n]) is Weight})
        kept = {}
        for name, average in self.average.items():
            whole = own[name].whole(average)  # all ranks take part
            if trainer.is_global_zero:
                kept[name] = whole.cpu()
        checkpoint[KEY] = {"steps": self.steps, "average": kept, "evaluate": self.evaluate}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on, or begin at the weights where the checkpoint has no average."""
        found = checkpoint.get(KEY)
        self._found = dict(found["average"]) if found else {}
        self.average = {}
        self.steps = int(found["steps"]) if found else 0

    @torch.no_grad()
    def _swap_in(self, module: nn.Module) -> None:
        if self._weights is not None:
            return
        own = trained_weights(module)
        self._weights = {name: weight.computed_with.clone() for name, weight in own.items()}
        for name, weight in own.items():
            weight.show(self.average[name])

    @torch.no_grad()
    def _swap_out(self, module: nn.Module) -> None:
        if self._weights is None:
            return
        for name, weight in trained_weights(module).items():
            weight.hide(self._weights[name])
        self._weights = None


@contextmanager
def own_weights(trainer: Trainer) -> Iterator[None]:
    """The model has its weights within, not an average of them; for saving."""
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    swapped = [found for found in callbacks if isinstance(found, Ema) and found._weights is not None]
    for average in swapped:
        average._swap_out(trainer.lightning_module)
    yield
    for average in swapped:  # not after an error, which the other ranks may not have met
        average._swap_in(trainer.lightning_module)


def average_in(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The average that a checkpoint is to be evaluated with; empty where it is to be with the weights."""
    found = checkpoint.get(KEY)
    return found["average"] if found and found["evaluate"] else {}


def _wide(tensor: Tensor) -> torch.dtype:
    """bfloat16 would lose steps as small as 1 - decay."""
    return torch.promote_types(tensor.dtype, torch.float32)
