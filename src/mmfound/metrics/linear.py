"""Linear classifiers fitted to frozen features.

Shape letters: N samples, D features, C classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_HISTORY = 10  # as scipy's


@dataclass(frozen=True)
class Linear:
    """Scores are `feature_ND @ weight_CD.T + bias_C`."""

    weight_CD: Tensor
    bias_C: Tensor

    def scores(self, feature_ND: Tensor) -> Tensor:
        """[N, C], the larger the likelier."""
        return feature_ND.to(self.weight_CD.dtype) @ self.weight_CD.T + self.bias_C


def logistic(
    feature_ND: Tensor,
    label_N: Tensor,
    classes: int,
    *,
    C: float,
    start: Linear | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-4,
) -> Linear:
    """Multinomial logistic regression by L-BFGS, on any device, in the dtype of the features.

    Minimises C times the summed cross-entropy plus half the squared weights, intercepts left out: the minimum of
    scikit-learn's `LogisticRegression(C=C)`, which runs on the CPU alone. Of two classes it, too, fits the difference
    of the weights. A class without samples gets a low score.

    Args:
        feature_ND: used as they are, not scaled; the search centres them, which the free intercepts undo.
        label_N: int64 in [0, classes).
        classes: how many, at least 2.
        C: inverse strength of the regularisation, above 0.
        start: where the search begins; at zero by default.
        max_iterations: of L-BFGS; 1,000 in the CLIP paper (appendix A.3).
        tolerance: it ends when no entry of the gradient of the mean loss is larger.

    Returns:
        Weights; those of two classes are one another's opposite.
    """
    present = torch.bincount(label_N, minlength=classes) > 0
    strength = (2.0 if int(present.sum()) == 2 else 1.0) / (C * len(label_N))
    target_NC = F.one_hot(label_N, classes).to(feature_ND.dtype)
    absent_C = torch.zeros(classes, dtype=feature_ND.dtype, device=feature_ND.device).masked_fill(~present, -torch.inf)
    mean_D = feature_ND.mean(dim=0)
    feature_ND = feature_ND - mean_D
    begin = start or Linear(feature_ND.new_zeros(classes, feature_ND.shape[1]), feature_ND.new_zeros(classes))
    weight, bias = begin.weight_CD.clone(), (begin.bias_C + begin.weight_CD @ mean_D).nan_to_num(neginf=0.0)

    def loss_and_gradient() -> Tensor:
        log_chance_NC = F.log_softmax(feature_ND @ weight.T + bias + absent_C, dim=1)
        error_NC = (log_chance_NC.exp() - target_NC) / len(label_N)
        weight.grad = error_NC.T @ feature_ND + strength * weight
        bias.grad = error_NC.sum(dim=0)
        picked_N = log_chance_NC.gather(1, label_N[:, None])
        return -picked_N.mean() + strength / 2 * weight.square().sum()

    search = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iterations,
        max_eval=4 * max_iterations,
        tolerance_grad=tolerance,
        tolerance_change=tolerance**2,  # what a gradient of that size still changes
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )
    with torch.autocast(feature_ND.device.type, enabled=False):
        search.step(loss_and_gradient)  # pyright: ignore[reportArgumentType]
    bias = bias - weight @ mean_D
    return Linear(weight, bias - bias[present].mean() + absent_C)


class Ridge:
    """Least squares of the classes' indicators with squared weights as penalty, in closed form for any strength.

    The minimum of scikit-learn's `Ridge(alpha)`: summed squares plus alpha times the squared weights, the intercept
    free. Features are centred; one eigendecomposition of the smaller of the two Gram matrices serves all strengths.

    Args:
        feature_ND: as they are.
        target_NC: what each class's score should be, such as 1 and -1 (big_vision's `fewshot_lsr`).
    """

    def __init__(self, feature_ND: Tensor, target_NC: Tensor) -> None:
        self._mean_D, self._mean_C = feature_ND.mean(dim=0), target_NC.mean(dim=0)
        centred_ND, target_NC = feature_ND - self._mean_D, target_NC - self._mean_C
        self._dual = len(feature_ND) < feature_ND.shape[1]
        gram = centred_ND @ centred_ND.T if self._dual else centred_ND.T @ centred_ND
        self._values, self._vectors = torch.linalg.eigh(gram)
        right = target_NC if self._dual else centred_ND.T @ target_NC
        self._rotated = self._vectors.T @ right
        self._back = centred_ND.T @ self._vectors if self._dual else self._vectors

    def fit(self, alpha: float) -> Linear:
        """The classifier of one strength, above 0."""
        shrunk = self._rotated / (self._values.clamp(min=0) + alpha)[:, None]
        weight_CD = (self._back @ shrunk).T
        return Linear(weight_CD, self._mean_C - weight_CD @ self._mean_D)
