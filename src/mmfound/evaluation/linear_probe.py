"""What frozen features are good for: probes fitted to a labelled source.

Shape letters: N samples, D features, C classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mmfound.data.source import Source
from mmfound.errors import ConfigError, DataError
from mmfound.evaluation.abilities import require_abilities
from mmfound.evaluation.classifiers import Classifier, LogisticRegression
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.features import METHODS, Kind, Labelled, labelled_features
from mmfound.evaluation.reports import class_tables
from mmfound.evaluation.table import Table
from mmfound.metrics.classification import mean_per_class
from mmfound.metrics.ranking import expected_hits


class Probe(Evaluator):
    """Fits classifiers to the features of a training source, and scores them on another.

    A classifier without a setting of its own gets the one that is best on the validation source, and is then fitted
    again on training and validation samples together, as in the CLIP paper (arXiv:2103.00020, appendix A.3).
    Metrics: `{classifier}_top1`, `_top5` (with more than five classes) and `_mean_per_class`, in [0, 1], and the
    setting, such as `logistic_C`.

    Args:
        source: pictures with labels, to score on.
        train_source: pictures with labels of the same classes, to fit to.
        val_source: the same, to choose on.
        classifiers: with distinct names; a logistic regression by default.
        features: "tower" takes what the image tower has pooled before its projection, as the paper does for its ViTs;
            "embedding" the joint space, as it does for its ResNets.
        refit: whether validation samples are fitted to after the choice.
        name: prefix of the metrics.
    """

    def __init__(
        self,
        source: Source,
        train_source: Source,
        *,
        val_source: Source | None = None,
        classifiers: list[Classifier] | None = None,
        features: Kind = "tower",
        refit: bool = True,
        name: str = "probe",
    ) -> None:
        super().__init__(source, name=name)
        self.train_source, self.val_source = train_source, val_source
        self.classifiers = [LogisticRegression()] if classifiers is None else list(classifiers)
        self.features: Kind = features
        self.refit = refit
        names = [classifier.name for classifier in self.classifiers]
        if len(set(names)) < len(names) or not names:
            raise ConfigError(f"evaluator Probe {name!r}: classifiers are named {names}; give each a name of its own.")

    def check(self, model: nn.Module, data: Any) -> None:
        """The model has the features, and there is something to choose settings on."""
        user = f"evaluator Probe {self.name!r}"
        check_probe(user, model, self.features, self.classifiers, self.val_source)
        class_names(user, self.source, self.train_source, self.val_source)

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """Fit and score all classifiers; the pictures are embedded once, and every rank solves the same."""
        self.check(model, data)
        self.tables = []
        user = f"evaluator Probe {self.name!r}"
        used = [source for source in (self.source, self.train_source, self.val_source) if source is not None]
        test, train, *val = (labelled_features(user, model, data, source, self.features) for source in used)
        names = check_labels(user, class_names(user, *used), test, train, *val)
        metrics: dict[str, float] = {}
        with torch.autocast(test.feature_ND.device.type, enabled=False):
            for classifier in self.classifiers:
                metrics |= self._scored(classifier, names, test, train, *val)
        return metrics

    def _scored(
        self, classifier: Classifier, names: list[str], test: Labelled, train: Labelled, val: Labelled | None = None
    ) -> dict[str, float]:
        setting, prefix = classifier.setting, f"{classifier.name}_"
        if setting is None and val is not None:
            swept = classifier.sweep(train, val, len(names))
            rows = list(swept.scores.items())
            self.tables.append(Table(f"{prefix}sweep", [classifier.symbol, "val_top1"], rows))
            setting, train = swept.best, train + val if self.refit else train
        assert setting is not None  # as `check` has seen
        score_NC = classifier.fit(train, len(names), setting)(test.feature_ND)
        ks = (1, 5) if len(names) > 5 else (1,)
        label_NC = torch.nn.functional.one_hot(test.label_N, len(names)).bool()
        hit_NK = expected_hits(score_NC, label_NC, ks)
        self.tables += class_tables(names, test.label_N, score_NC.argmax(dim=1), hit_NK[:, 0], prefix)
        found = dict(zip((f"{prefix}top{k}" for k in ks), hit_NK.mean(dim=0).tolist(), strict=True))
        found[f"{prefix}mean_per_class"] = mean_per_class(hit_NK[:, 0], test.label_N)
        return found | {f"{prefix}{classifier.symbol}": float(setting)}


def check_probe(
    user: str, model: nn.Module, features: Kind, classifiers: Sequence[Classifier], val_source: Source | None
) -> None:
    """Refuse a model without the features, and a choice without samples to choose on.

    Raises:
        ConfigError: naming the user.
    """
    require_abilities(user, model, METHODS[features])
    open_ones = [classifier for classifier in classifiers if classifier.setting is None]
    if open_ones and val_source is None:
        symbol = open_ones[0].symbol
        raise ConfigError(
            f"{user}: {symbol} of {open_ones[0].name} is to be chosen, but there is no val_source to choose it on. "
            f"Set val_source (a part of the training samples, mmfound.data.Subset, will do), or {symbol}."
        )


def class_names(user: str, *sources: Source | None) -> list[str]:
    """The names of the labels, from the first source that has any; an empty list where none has.

    Raises:
        DataError: when two sources name them differently.
    """
    named = [(source, list(source.classes)) for source in sources if source is not None and source.classes]
    for source, names in named:
        if names != named[0][1]:
            number = next((n for n, pair in enumerate(zip(names, named[0][1], strict=False)) if pair[0] != pair[1]), -1)
            raise DataError(
                f"{user}: {type(named[0][0]).__name__} has {len(named[0][1])} classes, {type(source).__name__} "
                f"{len(names)}" + (f", and their class {number} differs" if number >= 0 else "") + ". A probe needs "
                "sources with the same classes in the same order."
            )
    return named[0][1] if named else []


def check_labels(user: str, names: list[str], test: Labelled, train: Labelled, *others: Labelled) -> list[str]:
    """A name for every label: those given, or numbers.

    Raises:
        DataError: when there are more labels than names, or the training samples are of one class.
    """
    most = max(int(part.label_N.max()) for part in (test, train, *others)) + 1
    if names and most > len(names):
        raise DataError(f"{user}: there is a label {most - 1}, but only {len(names)} class names.")
    seen = int(train.label_N.unique().numel())
    if seen < 2:
        raise DataError(f"{user}: the {len(train.label_N)} training samples are of {seen} class; a probe needs two.")
    return names or [str(number) for number in range(most)]
