import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from torch import Tensor

from mmfound.metrics import Ridge, logistic


def samples(count: int, width: int, classes: int) -> tuple[Tensor, Tensor]:
    label = torch.arange(count) % classes
    centre = torch.randn(classes, width, dtype=torch.float64)
    return centre[label] + 2 * torch.randn(count, width, dtype=torch.float64) + 1.0, label


def fitted(feature: Tensor, label: Tensor, C: float) -> LogisticRegression:
    """By Newton's method: scikit-learn's L-BFGS stops at a relative change of the loss of 1e-14, 3e-6 away."""
    return LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=10_000).fit(
        feature.numpy(), label.numpy()
    )


@pytest.mark.parametrize("C", [1e-3, 0.3, 10.0])
def test_coefficients_equal_scikit_learns(C: float):
    feature, label = samples(300, 12, 5)
    ours, theirs = logistic(feature, label, 5, C=C, tolerance=1e-10), fitted(feature, label, C)
    assert np.abs(theirs.coef_).max() > 0.03
    np.testing.assert_allclose(ours.weight_CD, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(ours.bias_C, theirs.intercept_ - theirs.intercept_.mean(), atol=1e-6)


def test_two_classes_are_scikit_learns_single_vector():
    feature, label = samples(200, 6, 2)
    ours, theirs = logistic(feature, label, 2, C=0.1, tolerance=1e-10), fitted(feature, label, 0.1)
    np.testing.assert_allclose(ours.weight_CD[1] - ours.weight_CD[0], theirs.coef_[0], atol=1e-6)
    np.testing.assert_allclose(ours.bias_C[1] - ours.bias_C[0], theirs.intercept_[0], atol=1e-6)


def test_warm_start_ends_where_a_cold_one_does():
    feature, label = samples(200, 6, 4)
    cold = logistic(feature, label, 4, C=1.0, tolerance=1e-10)
    warm = logistic(feature, label, 4, C=1.0, tolerance=1e-10, start=logistic(feature, label, 4, C=0.01))
    torch.testing.assert_close(warm.weight_CD, cold.weight_CD, atol=1e-6, rtol=0)


def test_a_class_without_samples_changes_nothing_and_is_never_chosen():
    feature, label = samples(200, 6, 4)
    four = logistic(feature, label, 4, C=1.0, tolerance=1e-10)
    seven = logistic(feature, label + (label > 1), 7, C=1.0, tolerance=1e-10)
    again = logistic(feature, label + (label > 1), 7, C=1.0, tolerance=1e-10, start=seven)
    torch.testing.assert_close(seven.weight_CD[[0, 1, 3, 4]], four.weight_CD, atol=1e-6, rtol=0)
    assert set(again.scores(feature).argmax(dim=1).tolist()) <= {0, 1, 3, 4}


def test_float32_gets_to_the_same_minimum():
    feature, label = samples(200, 6, 4)
    exact = logistic(feature, label, 4, C=1.0, tolerance=1e-10)
    torch.testing.assert_close(
        logistic(feature.float(), label, 4, C=1.0).weight_CD.double(), exact.weight_CD, atol=5e-3, rtol=0
    )


@pytest.mark.parametrize(("count", "width"), [(100, 7), (20, 50)], ids=["primal", "dual"])
@pytest.mark.parametrize("alpha", [1e-3, 30.0])
def test_ridge_equals_scikit_learns(count: int, width: int, alpha: float):
    feature, label = samples(count, width, 3)
    target = 2.0 * F.one_hot(label, 3).double() - 1
    ours, theirs = Ridge(feature, target).fit(alpha), SklearnRidge(alpha=alpha).fit(feature.numpy(), target.numpy())
    np.testing.assert_allclose(ours.weight_CD, theirs.coef_, atol=1e-8)
    np.testing.assert_allclose(ours.bias_C, theirs.intercept_, atol=1e-8)
