"""Makes a changed learning rate count when a run goes on."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import LambdaLR

from mmfound.errors import ConfigError

_STATE = ("params", "lr")  # the rate is the schedule's to say


class RecipeWins(Callback):
    """Takes an optimiser's settings from the recipe where torch takes them from the checkpoint.

    A checkpoint holds learning rate, betas and weight decay beside the moments, and restoring the moments would put the
    old settings back without a word. Moments of another optimiser are refused, which torch would take and not use.
    """

    def __init__(self) -> None:
        self._kinds: list[str] = []  # of the recipe's optimisers, by class
        self._saved: list[str] = []  # of the checkpoint's
        self._built: list[list[dict[str, Any]]] = []
        self._base: list[list[Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """What the moments belong to."""
        return {"optimizers": self._kinds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Before the fit starts or, under strategies that split weights, after it.

        Raises:
            ConfigError: when the checkpoint is of another optimiser.
        """
        self._saved = list(state_dict["optimizers"])
        if self._kinds:
            self._compare()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what the recipe has built, before the checkpoint's moments are restored.

        Raises:
            ConfigError: when the checkpoint is of another optimiser.
        """
        self._kinds = [_kind(optimizer) for optimizer in trainer.optimizers]
        self._compare()
        self._built = [[_settings(group) for group in optimizer.param_groups] for optimizer in trainer.optimizers]
        self._base = [list(found.base_lrs) for found in _schedules(trainer)]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put it back."""
        for optimizer, built in zip(trainer.optimizers, self._built, strict=True):
            for group, settings in zip(optimizer.param_groups, built, strict=True):
                group.update(settings)
        for schedule, base in zip(_schedules(trainer), self._base, strict=True):
            schedule.base_lrs = base
            rates = [peak * factor(schedule.last_epoch) for peak, factor in zip(base, schedule.lr_lambdas, strict=True)]
            for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            schedule._last_lr = rates

    def _compare(self) -> None:
        theirs = [kind for kind in self._saved if not kind.startswith("DeepSpeed")]  # of older checkpoints
        if theirs and theirs != self._kinds:
            raise ConfigError(
                f"the checkpoint's optimiser is {', '.join(theirs)}, the recipe's {', '.join(self._kinds)}, to which "
                "its state means nothing; undo the change, or begin with --init_from in another --run_dir"
            )


def _kind(optimizer: Any) -> str:
    """The class that the recipe names, which DeepSpeed wraps or replaces by one that computes on the host."""
    inner = getattr(optimizer, "optimizer", optimizer)
    name = type(inner).__name__
    return name if name != "DeepSpeedCPUAdam" else "AdamW" if inner.adam_w_mode else "Adam"


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in _STATE}


def _schedules(trainer: Trainer) -> list[LambdaLR]:
    found = [config.scheduler for config in trainer.lr_scheduler_configs]
    return [schedule for schedule in found if isinstance(schedule, LambdaLR)]
