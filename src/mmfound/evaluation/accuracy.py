"""Accuracy of a classifier.

Shape letters: n samples of this rank, N of all, C classes.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mmfound import distributed
from mmfound.data.source import Source
from mmfound.errors import DataError
from mmfound.evaluation.abilities import require_abilities
from mmfound.evaluation.embedding import device_of, gather_lists, in_step
from mmfound.evaluation.evaluator import Evaluator
from mmfound.metrics.classification import mean_per_class


class Accuracy(Evaluator):
    """Share of pictures whose predicted class is their own: `top1` and `mean_per_class`, in [0, 1].

    Args:
        source: pictures with labels, those the classifier was trained on.
        name: prefix of the metrics.
        class_field: field of the samples' `meta` that joins classes into coarser ones; a prediction is then right when
            the class it names lies in the same coarse class.
    """

    def __init__(self, source: Source, *, name: str = "", class_field: str | None = None) -> None:
        super().__init__(source, name=name)
        self.class_field = class_field

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """Accuracy over the whole source."""
        require_abilities(f"evaluator Accuracy {self.name!r}", model, "classify")
        predicted, labels, groups = [], [], []
        for batch, is_new in in_step(data.eval_batches(self.source, device_of(model))):
            logits = model.classify(batch["image"])  # pyright: ignore[reportCallIssue]
            if is_new:
                predicted.append(logits.argmax(dim=1))
                labels += self._labels(batch)
                groups += [meta.get(self.class_field) for meta in batch["meta"]]
        every_label, every_group = gather_lists(labels), gather_lists(groups)
        if not every_label:
            raise DataError(
                f"{type(self.source).__name__} has no samples that evaluator Accuracy {self.name!r} can score."
            )
        predicted_N = distributed.gather_rows(torch.cat(predicted)).cpu()
        label_N = torch.tensor(every_label)
        hit_N = self._hits(predicted_N, label_N, every_group)
        return {"top1": hit_N.mean().item(), "mean_per_class": mean_per_class(hit_N, label_N)}

    def _labels(self, batch: dict[str, Any]) -> list[int]:
        if "label" not in batch:
            raise DataError(f"{type(self.source).__name__} has no labels; evaluator Accuracy {self.name!r} needs them.")
        return batch["label"].tolist()

    def _hits(self, predicted_N: Tensor, label_N: Tensor, groups: list[Any]) -> Tensor:
        if self.class_field is None:
            return (predicted_N == label_N).float()
        group_of = dict(zip(label_N.tolist(), groups, strict=True))
        return torch.tensor(
            [float(group_of.get(guess) == group) for guess, group in zip(predicted_N.tolist(), groups, strict=True)]
        )
