"""The recipe beside its results in TensorBoard."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from mmfound.callbacks.kept_config import kept_config


class LogHyperparameters(Callback):
    """Logs the resolved recipe and the final metrics when training ends (TensorBoard's HPARAMS page).

    Args:
        config: the resolved recipe, whose nested keys are joined by dots; by default the newest `config*.yaml` in the
            run folder.
        metrics: starts of the names of the metrics that are compared.
    """

    def __init__(
        self, config: Mapping[str, Any] | None = None, *, metrics: tuple[str, ...] = ("val/", "train/loss")
    ) -> None:
        self.config = config
        self.metrics = metrics

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log both, on the first rank."""
        if not trainer.is_global_zero:
            return
        config = self.config or kept_config(Path(trainer.default_root_dir), "LogHyperparameters")
        recipe = dict(flattened(config))
        final = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(self.metrics)
        }
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(recipe, final, step=trainer.global_step)
            else:
                logger.log_hyperparams(recipe)


def flattened(config: Any, prefix: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """Dotted names and values of what lies in nested dicts and lists; None, which TensorBoard cannot show, as text."""
    if isinstance(config, (Mapping, list, tuple)) and config:
        items = config.items() if isinstance(config, Mapping) else enumerate(config)
        for name, value in items:
            yield from flattened(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, config if isinstance(config, (bool, int, float, str)) else str(config)
