"""Probes fitted to a few samples of each class.

Shape letters: N samples, D features, C classes.
"""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from mmfound.data.source import Source
from mmfound.errors import ConfigError, DataError
from mmfound.evaluation.classifiers import Classifier, LogisticRegression
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.features import Kind, Labelled, labelled_features
from mmfound.evaluation.linear_probe import check_labels, check_probe, class_names
from mmfound.evaluation.table import Table
from mmfound.metrics.classification import topk_accuracy


class FewShot(Evaluator):
    """Fits a classifier to n training samples of each class, for several n and draws.

    Metrics: `{n}_shot_top1`, the mean over the draws, in [0, 1], and `{n}_shot_standard_error` of that mean. A draw is
    a function of its seed and the order of the source, and a larger n has the samples of a smaller. The setting, where
    it is to be chosen, is the best on the whole validation source, which is not fitted to.

    Args:
        source: pictures with labels, to score on.
        train_source: pictures with labels of the same classes, to draw from.
        val_source: the same, to choose on.
        classifier: a logistic regression by default.
        shots: numbers of samples of each class.
        seeds: one draw each, at least two for a standard error.
        features: as in `Probe`.
        name: prefix of the metrics.
    """

    def __init__(
        self,
        source: Source,
        train_source: Source,
        *,
        val_source: Source | None = None,
        classifier: Classifier | None = None,
        shots: Sequence[int] = (1, 2, 4, 8, 16),
        seeds: Sequence[int] = (0, 1, 2),
        features: Kind = "tower",
        name: str = "few_shot",
    ) -> None:
        super().__init__(source, name=name)
        self.train_source, self.val_source = train_source, val_source
        self.classifier = classifier or LogisticRegression()
        self.shots, self.seeds = list(shots), list(seeds)
        self.features: Kind = features
        if not self.shots or min(self.shots) < 1 or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(
                f"evaluator FewShot {name!r}: shots {self.shots} must be 1 or more, and seeds {self.seeds} distinct; "
                "give at least one of each."
            )

    def check(self, model: nn.Module, data: Any) -> None:
        """The model has the features, and there is something to choose the setting on."""
        user = f"evaluator FewShot {self.name!r}"
        check_probe(user, model, self.features, [self.classifier], self.val_source)
        class_names(user, self.source, self.train_source, self.val_source)

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """Mean and standard error over the seeds, for every number of shots."""
        self.check(model, data)
        user = f"evaluator FewShot {self.name!r}"
        used = [source for source in (self.source, self.train_source, self.val_source) if source is not None]
        test, train, *val = (labelled_features(user, model, data, source, self.features) for source in used)
        names = check_labels(user, class_names(user, *used), test, train, *val)
        asked = test.label_N.unique()
        metrics, rows = {}, []
        with torch.autocast(test.feature_ND.device.type, enabled=False):
            for shots in self.shots:
                drawn = [draw(user, train.label_N, asked, names, shots, seed) for seed in self.seeds]
                found = [self._accuracy(train.take(chosen), test, len(names), *val) for chosen in drawn]
                error = stdev(found) / len(found) ** 0.5 if len(found) > 1 else None
                metrics[f"{shots}_shot_top1"] = fmean(found)
                metrics |= {} if error is None else {f"{shots}_shot_standard_error": error}
                rows.append([shots, fmean(found), error, *found])
        columns = ["shots", "mean_top1", "standard_error", *(f"seed_{seed}" for seed in self.seeds)]
        self.tables = [Table("shots", columns, rows)]
        return metrics

    def _accuracy(self, train: Labelled, test: Labelled, classes: int, val: Labelled | None = None) -> float:
        setting = self.classifier.setting
        if setting is None and val is not None:
            setting = self.classifier.sweep(train, val, classes).best
        assert setting is not None  # as `check` has seen
        score_NC = self.classifier.fit(train, classes, setting)(test.feature_ND)
        return topk_accuracy(score_NC, test.label_N, (1,))[0]


def draw(user: str, label_N: Tensor, asked: Tensor, names: Sequence[str], shots: int, seed: int) -> Tensor:
    """Rows of `shots` samples of each class that occurs, or that is asked for.

    Raises:
        DataError: naming the class that has fewer.
    """
    rows, generator = [], torch.Generator().manual_seed(seed)
    for label in torch.cat([label_N, asked]).unique().tolist():
        own = (label_N == label).nonzero()[:, 0]
        if len(own) < shots:
            raise DataError(
                f"{user}: class {names[label]!r} has {len(own)} training samples, fewer than {shots} shots. "
                f"Leave {shots} out of `shots`, or use a larger train_source."
            )
        rows.append(own[torch.randperm(len(own), generator=generator)[:shots].to(own.device)])
    return torch.cat(rows)
