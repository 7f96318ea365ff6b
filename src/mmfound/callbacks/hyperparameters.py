"""The recipe beside its results in TensorBoard."""

from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger


class LogHyperparameters(Callback):
    """Logs the resolved recipe and the final metrics when training ends (TensorBoard's HPARAMS page).

    Args:
        config: the resolved recipe; nested keys are joined by dots.
        metrics: starts of the names of the metrics that are compared.
    """

    def __init__(self, config: Mapping[str, Any], *, metrics: tuple[str, ...] = ("val/", "train/loss")) -> None:
        self.config = dict(flattened(config))
        self.metrics = metrics

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log both."""
        final = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(self.metrics)
        }
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self.config, final, step=trainer.global_step)
            else:
                logger.log_hyperparams(self.config)


def flattened(config: Any, prefix: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """Dotted names and values of what lies in nested dicts and lists; None, which TensorBoard cannot show, as text."""
    if isinstance(config, (Mapping, list, tuple)) and config:
        items = config.items() if isinstance(config, Mapping) else enumerate(config)
        for name, value in items:
            yield from flattened(value, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix, config if isinstance(config, (bool, int, float, str)) else str(config)
