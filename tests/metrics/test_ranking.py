import math

import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from mmfound.metrics import expected_hits, mean_per_class, topk_accuracy


def one_right(count: int) -> torch.Tensor:
    positive = torch.zeros(1, count, dtype=torch.bool)
    positive[0, -1] = True
    return positive


def test_without_ties_a_hit_is_being_among_the_k_best():
    score = torch.tensor([[3.0, 2.0, 1.0, 2.5]])
    assert expected_hits(score, one_right(4), [1, 2, 3]).tolist() == [[0.0, 1.0, 1.0]]


def test_a_model_that_scores_all_alike_gets_chance_level():
    torch.testing.assert_close(
        expected_hits(torch.zeros(1, 10), one_right(10), [1, 5, 10]), torch.tensor([[0.1, 0.5, 1.0]]).double()
    )


def test_scores_that_are_nan_get_chance_level():
    assert expected_hits(torch.full((1, 4), math.nan), one_right(4), [1]).item() == pytest.approx(0.25)


def test_ties_give_the_mean_over_random_orders():
    positive = torch.tensor([[True, False, True, False, False, False]])
    score = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0, 2.0]])
    orders = torch.stack([torch.randperm(6) for _ in range(4000)])
    ranked = orders[torch.arange(4000)[:, None], score[0][orders].argsort(dim=1, descending=True, stable=True)]
    found = positive[0][ranked[:, :3]].any(dim=1).double().mean()
    assert expected_hits(score, positive, [3]).item() == pytest.approx(found.item(), abs=0.03)


@pytest.mark.parametrize("k", [1, 3])
def test_accuracy_equals_torchmetrics(k: int):
    logits, label = torch.randn(200, 7), torch.randint(0, 7, (200,))
    expected = multiclass_accuracy(logits, label, 7, average="micro", top_k=k)
    assert topk_accuracy(logits, label, [k])[0] == pytest.approx(expected.item())


def test_mean_per_class_equals_torchmetrics_and_leaves_out_absent_classes():
    logits, label = torch.randn(200, 7), torch.randint(0, 5, (200,))
    hit = (logits.argmax(dim=1) == label).double()
    recall = multiclass_accuracy(logits, label, 7, average="none")
    assert mean_per_class(hit, label) == pytest.approx(recall[:5].mean().item())
