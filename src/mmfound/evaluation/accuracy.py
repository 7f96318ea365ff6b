"""Accuracy of a classifier.

Shape letters: n samples of this rank, N of all, C classes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mmfound import distributed
from mmfound.data.source import Source
from mmfound.errors import DataError
from mmfound.evaluation.abilities import require_abilities
from mmfound.evaluation.embedding import device_of, in_step
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.grouping import groups_of
from mmfound.evaluation.reports import class_tables
from mmfound.metrics.classification import mean_per_class
from mmfound.metrics.ranking import expected_hits


class Accuracy(Evaluator):
    """Share of pictures whose largest logit is their class's: `top1` and `mean_per_class`, in [0, 1].

    Tables: `per_class` and `confusion`.

    Args:
        source: pictures with labels, those the classifier was trained on.
        name: prefix of the metrics.
        group_field: field of the samples' `meta` that joins classes into coarser ones; a prediction is then right when
            the class it names lies in the sample's group.
    """

    def __init__(self, source: Source, *, name: str = "", group_field: str | None = None) -> None:
        super().__init__(source, name=name)
        self.group_field = group_field

    def check(self, model: nn.Module, data: Any) -> None:
        """The model classifies."""
        require_abilities(f"evaluator Accuracy {self.name!r}", model, "classify")

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """Accuracy over the whole source."""
        self.check(model, data)
        logits, batches = [], []
        for batch, is_new in in_step(data.eval_batches(self.source, device_of(model))):
            scored = model.classify(batch["image"]).float()  # pyright: ignore[reportCallIssue]
            if is_new:
                logits.append(scored)
                batches.append(batch)
        if not batches or "label" not in batches[0]:
            what = "no samples that can be read" if not batches else "no labels"
            raise DataError(f"{type(self.source).__name__} has {what}; evaluator Accuracy {self.name!r} needs them.")
        logits_nC = torch.cat(logits)
        group_n = label_n = torch.cat([batch["label"] for batch in batches])
        if (most := int(label_n.max())) >= logits_nC.shape[1]:
            raise DataError(
                f"evaluator Accuracy {self.name!r}: {type(self.source).__name__} has a label {most}, but the model "
                f"scores {logits_nC.shape[1]} classes. Take the source it was trained on, or another split of it."
            )
        positive_nC = F.one_hot(label_n, logits_nC.shape[1]).bool()
        if self.group_field is not None:
            metas = [meta for batch in batches for meta in batch["meta"]]
            user = f"evaluator Accuracy {self.name!r}"
            group_C = groups_of(user, self.group_field, metas, label_n.tolist(), logits_nC.shape[1]).to(label_n.device)
            group_n = group_C[label_n]
            positive_nC = group_C[None] == group_n[:, None]
        hit_N = distributed.gather_rows(expected_hits(logits_nC, positive_nC, (1,)))[:, 0]
        label_N, predicted_N = (distributed.gather_rows(row) for row in (label_n, logits_nC.argmax(dim=1)))
        names = self.source.classes
        if len(names) != logits_nC.shape[1]:
            names = [str(number) for number in range(logits_nC.shape[1])]
        self.tables = class_tables(names, label_N, predicted_N, hit_N)
        return {"top1": float(hit_N.mean()), "mean_per_class": mean_per_class(hit_N, distributed.gather_rows(group_n))}
