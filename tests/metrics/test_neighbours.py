import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.neighbors import KNeighborsClassifier

from mmfound.metrics import confusion_matrix, log_sweep, nearest_samples, neighbour_votes, neighbours

FEATURE = torch.randn(200, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
QUERY = torch.randn(50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
LABEL = torch.arange(200) % 6


@pytest.mark.parametrize("rows", [3, 1000])
def test_votes_equal_scikit_learns(rows: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbours, "_SIMILARITIES_AT_ONCE", rows * len(FEATURE))
    theirs = KNeighborsClassifier(7, metric="cosine").fit(FEATURE.numpy(), LABEL.numpy())
    ours = neighbour_votes(3 * QUERY, FEATURE, LABEL, 6, k=7)
    np.testing.assert_allclose(ours, theirs.predict_proba(QUERY.numpy()), atol=1e-12)


def test_weighted_votes_are_dinos():
    votes = neighbour_votes(QUERY, FEATURE, LABEL, 6, k=7, temperature=0.07)
    similarity = F.cosine_similarity(QUERY[:, None], FEATURE[None], dim=2)
    expected = torch.zeros(50, 6, dtype=torch.float64)
    for row, near in enumerate(similarity):
        for sample in near.argsort(descending=True)[:7]:
            expected[row, LABEL[sample]] += (near[sample] / 0.07).exp()
    torch.testing.assert_close(votes, expected / expected.sum(dim=1, keepdim=True))


def test_more_neighbours_than_samples_are_all_samples():
    votes = neighbour_votes(QUERY[:1], FEATURE[:4], LABEL[:4], 6, k=20)
    assert votes[0].tolist() == [0.25, 0.25, 0.25, 0.25, 0, 0]


def test_confusions_equal_scikit_learns():
    predicted = (LABEL + (torch.arange(200) % 3 == 0)) % 6
    theirs = sklearn_confusion(LABEL.numpy(), predicted.numpy(), labels=range(7))
    np.testing.assert_array_equal(confusion_matrix(LABEL, predicted, 7), theirs)


@pytest.mark.parametrize("peak", [-6.0, -3.125, 0.0, 2.5, 5.875, 6.0])
def test_sweep_finds_the_peak_among_97_values_in_about_15(peak: float):
    best, tried = log_sweep(lambda value: -abs(np.log10(value) - peak))
    assert np.log10(best) == pytest.approx(peak, abs=1e-9)
    assert len(tried) <= 15
    assert list(tried) == sorted(tried)


def test_sweep_takes_the_smallest_of_equals():
    assert log_sweep(lambda value: 1.0)[0] == pytest.approx(1e-6)


def test_nearest_are_found_in_parts_and_a_copy_is_at_no_distance(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neighbours, "_SIMILARITIES_AT_ONCE", 600)
    query = torch.cat([QUERY[:10].float(), FEATURE[5:6].float()])
    distance, row = nearest_samples(query, FEATURE.float())
    every = torch.cdist(query.double(), FEATURE)
    torch.testing.assert_close(distance.double(), every.amin(dim=1), atol=1e-6, rtol=1e-6)
    assert row.tolist() == every.argmin(dim=1).tolist()
    assert distance[-1] == 0
