"""Classifiers that a probe fits to frozen features.

Shape letters: N samples, D features, C classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mmfound.errors import ConfigError
from mmfound.evaluation.features import Labelled
from mmfound.metrics.classification import topk_accuracy
from mmfound.metrics.linear import Linear, Ridge, logistic
from mmfound.metrics.neighbours import neighbour_votes
from mmfound.metrics.sweep import log_sweep

Scores = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sweep:
    """The setting that is best on the validation samples, and their accuracy under all that were tried, ascending."""

    best: float
    scores: dict[float, float]


class Classifier(ABC):
    """Fits one number's worth of choice, its setting: given in the recipe, or chosen on validation samples.

    Args:
        name: of its metrics.
        setting: None to have it chosen.
    """

    symbol: ClassVar[str] = "setting"  # what its users call the setting

    def __init__(self, name: str, setting: float | None) -> None:
        self.name = name
        self.setting = setting
        if setting is not None and not setting > 0:
            raise ConfigError(f"{type(self).__name__}: {self.symbol} is {setting}; it must be above 0.")

    def sweep(self, train: Labelled, val: Labelled, classes: int) -> Sweep:
        """Choose the setting."""
        raise NotImplementedError

    @abstractmethod
    def fit(self, train: Labelled, classes: int, setting: float) -> Scores:
        """From features [N, D] to scores [N, C]."""


class LogisticRegression(Classifier):
    """Multinomial, by L-BFGS on the features as they are: the linear probe of the CLIP paper.

    Args:
        C: inverse strength of the regularisation as in scikit-learn; searched between 1e-6 and 1e6 by default.
        max_iterations: of L-BFGS.
        tolerance: largest entry of the gradient at which it ends.
        name: of its metrics.

    Source: Radford et al. 2021, arXiv:2103.00020, appendix A.3.
    """

    symbol = "C"

    def __init__(
        self, C: float | None = None, *, max_iterations: int = 1000, tolerance: float = 1e-4, name: str = "logistic"
    ) -> None:
        super().__init__(name, C)
        self.max_iterations, self.tolerance = max_iterations, tolerance

    def sweep(self, train: Labelled, val: Labelled, classes: int) -> Sweep:
        """As in the paper; each search begins where that of the nearest smaller C has ended."""
        solved: dict[float, Linear] = {}

        def accuracy(C: float) -> float:
            begin = solved[max(smaller)] if (smaller := [known for known in solved if known < C]) else None
            solved[C] = self._solve(train, classes, C, begin)
            return _top1(solved[C].scores, val)

        return Sweep(*log_sweep(accuracy))

    def fit(self, train: Labelled, classes: int, setting: float) -> Scores:
        """With one C."""
        return self._solve(train, classes, setting, None).scores

    def _solve(self, train: Labelled, classes: int, C: float, start: Linear | None) -> Linear:
        limits = {"max_iterations": self.max_iterations, "tolerance": self.tolerance}
        return logistic(train.feature_ND, train.label_N, classes, C=C, start=start, **limits)


class RidgeRegression(Classifier):
    """Least squares on 1 and -1 in closed form, of features scaled to unit variance on the training samples.

    Args:
        alpha: strength of the regularisation as in scikit-learn; chosen among 2**-10, 2**-9, ..., 2**20 by default.
        name: of its metrics.

    Source: after big_vision's `fewshot_lsr`.
    """

    symbol = "alpha"

    def __init__(self, alpha: float | None = None, *, name: str = "ridge") -> None:
        super().__init__(name, alpha)

    def sweep(self, train: Labelled, val: Labelled, classes: int) -> Sweep:
        """All strengths from one decomposition; of equal ones the smallest."""
        fit = self._fits(train, classes)
        scores = {2.0**power: _top1(fit(2.0**power), val) for power in range(-10, 21)}
        return Sweep(max(scores, key=scores.__getitem__), scores)

    def fit(self, train: Labelled, classes: int, setting: float) -> Scores:
        """With one strength."""
        return self._fits(train, classes)(setting)

    def _fits(self, train: Labelled, classes: int) -> Callable[[float], Scores]:
        feature_ND = train.feature_ND.double()
        scale_D = feature_ND.std(dim=0, correction=0)
        scale_D = torch.where(scale_D > 0, scale_D, 1.0)
        ridge = Ridge(feature_ND / scale_D, 2.0 * F.one_hot(train.label_N, classes).double() - 1)
        return lambda alpha: lambda feature_ND: ridge.fit(alpha).scores(feature_ND / scale_D)


class Neighbours(Classifier):
    """The votes of the nearest training samples by cosine.

    Args:
        k: how many vote.
        temperature: a vote counts exp(similarity / temperature), as in DINO (arXiv:2104.14294); null for equal votes.
        name: of its metrics.
    """

    symbol = "k"

    def __init__(self, k: int = 20, *, temperature: float | None = 0.07, name: str = "knn") -> None:
        super().__init__(name, k)
        self.temperature = temperature
        if temperature is not None and temperature <= 0:
            raise ConfigError(f"Neighbours: temperature is {temperature}; it must be above 0, or null.")

    def fit(self, train: Labelled, classes: int, setting: float) -> Scores:
        """Nothing but to remember."""

        def scores(feature_ND: Tensor) -> Tensor:
            near = {"k": int(setting), "temperature": self.temperature}
            return neighbour_votes(feature_ND, train.feature_ND, train.label_N, classes, **near)

        return scores


def _top1(scores: Scores, val: Labelled) -> float:
    return topk_accuracy(scores(val.feature_ND), val.label_N, (1,))[0]
