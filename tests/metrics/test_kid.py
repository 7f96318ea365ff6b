import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from mmfound.errors import DataError
from mmfound.metrics import kernel_distance, wilson_interval

X = torch.randn(60, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = torch.randn(60, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 1.5


def test_distance_equals_torchmetrics_on_given_features():
    theirs = poly_mmd(X, Y, degree=3, gamma=None, coef=1.0)
    assert kernel_distance(X, Y).value == pytest.approx(float(theirs), rel=1e-12)


def test_distance_of_sets_of_unequal_size_is_the_sum_over_pairs():
    x, y = X[:7], Y[:5]
    k = lambda a, b: (float(a @ b) / 8 + 1) ** 3  # noqa: E731
    own = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    other = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    cross = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y).value == pytest.approx(own + other - 2 * cross, rel=1e-12)


def test_standard_error_is_that_of_repeated_draws_and_equal_distributions_are_at_zero():
    generator = torch.Generator().manual_seed(3)
    found = []
    for _ in range(200):
        x, y = (torch.randn(50, 4, dtype=torch.float64, generator=generator) for _ in range(2))
        found.append((kernel_distance(x, y + 0.5), kernel_distance(x, y)))
    apart, same = ([pair[n] for pair in found] for n in (0, 1))
    spread = np.std([one.value for one in apart])
    assert np.mean([one.standard_error for one in apart]) == pytest.approx(spread, rel=0.2)
    assert abs(np.mean([one.value for one in same])) < 3 * np.std([one.value for one in same]) / 200**0.5


def test_too_few_samples_are_said():
    with pytest.raises(DataError, match="four or more"):
        kernel_distance(X[:3], Y)


def test_wilson_interval_equals_the_published_example_and_stays_within_bounds():
    # Newcombe 1998 (Statistics in Medicine 17), table I, method 3: 81 of 263, 15 of 148, 0 of 20.
    for hits, total, bounds in ((81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611))):
        assert wilson_interval(hits, total) == pytest.approx(bounds, abs=5e-5)
    assert wilson_interval(20, 20)[1] == 1
