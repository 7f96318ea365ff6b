"""Scores of the last of several stages, on what the stages before it have drawn."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from mmfound.data.source import Source
from mmfound.diffusion.pipeline import Link, Pipeline
from mmfound.diffusion.stage import Stage
from mmfound.errors import ConfigError
from mmfound.evaluation.embedding import device_of
from mmfound.evaluation.evaluator import Evaluator
from mmfound.generating.loading import load_pipeline
from mmfound.text.saved import FILE


class Chained(Evaluator):
    """Another evaluator, on pictures that exported stages draw and the model enlarges.

    Metrics, tables and sheets are the other evaluator's.

    Args:
        evaluator: of pictures, such as `AttributeScore`; none that hides parts of them.
        before: folders of exports, the stage that draws first; the model's own stage comes behind them.
    """

    def __init__(self, evaluator: Evaluator, before: Sequence[str]) -> None:
        super().__init__(evaluator.source, name=evaluator.name)
        self.evaluator, self.before = evaluator, list(before)
        self._links: list[Link] = []
        if "mask" in getattr(evaluator, "added", ()):
            raise ConfigError(
                f"evaluator Chained {self.name!r}: {type(evaluator).__name__} hides parts of pictures of one size, and "
                "stages in a row have several. Use it without Chained on the stage that fills in."
            )
        if not self.before:
            raise ConfigError("evaluator Chained: before is empty; name the export that draws, or leave Chained out.")

    def sources(self) -> dict[str, Source]:
        """The other evaluator's."""
        return self.evaluator.sources()

    def check(self, model: nn.Module, data: Any) -> None:
        """The exports are there, fit one another and the model, and read the same tokens."""
        self.evaluator.check(self._pipeline(model, data), data)  # pyright: ignore[reportArgumentType]

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """The other evaluator's metrics of the whole chain."""
        metrics = self.evaluator.evaluate(self._pipeline(model, data), data)  # pyright: ignore[reportArgumentType]
        self.tables, self.sheets = self.evaluator.tables, self.evaluator.sheets
        return metrics

    def _pipeline(self, model: nn.Module, data: Any) -> Pipeline:
        stage = getattr(model, "stage", None)
        if not isinstance(stage, Stage):
            raise ConfigError(
                f"evaluator Chained {self.name!r} needs a task with a stage, but {type(model).__name__} has none. Use "
                "mmfound.tasks.Diffusion."
            )
        if not self._links:
            for folder in self.before:
                self._check_tokenizer(Path(folder), data)
            self._links = load_pipeline(self.before).pipeline.links
        for link in self._links:
            link.stage.to(device_of(model)).eval()
        return Pipeline([*self._links, Link("the model", stage)])

    def _check_tokenizer(self, folder: Path, data: Any) -> None:
        """The batch's tokens go to all stages."""
        file, own = folder / FILE, getattr(data, "tokenizer", None)
        if not file.is_file() or own is None:
            return
        with TemporaryDirectory() as saved:
            own.save(Path(saved))
            if (Path(saved) / FILE).read_bytes() == file.read_bytes():
                return
        raise ConfigError(
            f"evaluator Chained {self.name!r}: {folder} reads other tokens than data.tokenizer makes. Set "
            "data.init_args.tokenizer to {class_path: mmfound.encoders.tokenizer_of, init_args: {weights: "
            f"{folder}}}}}."
        )
