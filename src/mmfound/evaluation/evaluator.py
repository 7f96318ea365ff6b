"""What every evaluator offers."""

from abc import ABC, abstractmethod
from typing import Any

from PIL import Image
from torch import nn

from mmfound.data.source import Source
from mmfound.evaluation.table import Table


class Evaluator(ABC):
    """A protocol named in the recipe: a source, a metric and the ability it asks of the model.

    It runs in fit (at every validation), validate and test on any task that has the ability.

    Args:
        source: the samples to evaluate on.
        name: prefix of its metrics, `val/{name}_{metric}`; empty for none.
    """

    def __init__(self, source: Source, *, name: str = "") -> None:
        self.source = source
        self.name = name
        self.tables: list[Table] = []  # of the last `evaluate`, equal on all ranks
        self.sheets: dict[str, Image.Image] = {}  # pictures of the last `evaluate` by name, on the first rank

    def sources(self) -> dict[str, Source]:
        """What it reads, by the names of its arguments."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Source)}

    def check(self, model: nn.Module, data: Any) -> None:  # noqa: B027 - some evaluators ask for nothing
        """Called before the first step, so that what `evaluate` would refuse is refused then.

        Raises:
            UserError: as `evaluate` would.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """Metrics by name without the prefix, equal on all ranks.

        Args:
            model: the task, in eval mode, gradients off.
            data: the recipe's DataModule: `data.tokenizer`, and `data.eval_batches(source, device)` gives this rank's
                share of the source as batches on the device.

        Raises:
            ConfigError: when the model lacks the ability, named with what would have it.
        """
