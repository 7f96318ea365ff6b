import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmfound.metrics import retrieval, retrieval_recall

IMAGES, CAPTIONS = 40, 5


def pairs(noise: float) -> tuple[Tensor, Tensor, Tensor]:
    image = F.normalize(torch.randn(IMAGES, 8), dim=1)
    image_of_text = torch.arange(IMAGES).repeat_interleave(CAPTIONS)[torch.randperm(IMAGES * CAPTIONS)]
    text = F.normalize(image[image_of_text] + noise * torch.randn(IMAGES * CAPTIONS, 8), dim=1)
    return image, text, image_of_text


def by_hand(image: Tensor, text: Tensor, image_of_text: Tensor, k: int) -> tuple[float, float]:
    score = image @ text.T
    right = [bool((image_of_text[row.argsort(descending=True)[:k]] == i).any()) for i, row in enumerate(score)]
    found = [int(image_of_text[t]) in row.argsort(descending=True)[:k].tolist() for t, row in enumerate(score.T)]
    return sum(right) / len(right), sum(found) / len(found)


@pytest.mark.parametrize("k", [1, 5])
def test_any_of_a_pictures_captions_in_the_k_best_is_a_hit(k: int):
    image, text, image_of_text = pairs(noise=0.8)
    recall = retrieval_recall(image, text, image_of_text, [k])
    expected = by_hand(image, text, image_of_text, k)
    assert 0.1 < expected[0] < 1
    assert (recall.image_to_text[k], recall.text_to_image[k]) == pytest.approx(expected)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch):
    image, text, image_of_text = pairs(noise=0.8)
    whole = retrieval_recall(image, text, image_of_text, [1, 5])
    monkeypatch.setattr(retrieval, "_SCORES_AT_ONCE", 3 * len(text))
    assert retrieval_recall(image, text, image_of_text, [1, 5]) == whole


def test_a_collapsed_model_gets_chance_level():
    ones = F.normalize(torch.ones(100, 4), dim=1)
    recall = retrieval_recall(ones, ones, torch.arange(100), [1, 10])
    assert recall.text_to_image == pytest.approx({1: 0.01, 10: 0.1})
    assert recall.image_to_text == pytest.approx({1: 0.01, 10: 0.1})


def test_equal_captions_tie_as_pairs_and_are_all_right_as_one_caption():
    image = torch.eye(4)
    text = torch.eye(4)[[0, 0, 2, 3]]
    image = image[[0, 0, 2, 3]]
    alone = retrieval_recall(image, text, torch.arange(4), [1])
    assert alone.image_to_text[1] == pytest.approx(0.75)
    together = retrieval_recall(image, text, torch.arange(4), [1], torch.tensor([7, 7, 5, 9]))
    assert (together.image_to_text[1], together.text_to_image[1]) == (1.0, 1.0)


def test_a_picture_without_captions_asks_for_nothing_but_stays_a_candidate():
    text = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.8, 0.6]])
    recall = retrieval_recall(torch.eye(3), text, torch.tensor([0, 2]), [1])
    assert recall.image_to_text[1] == 1.0
    assert recall.text_to_image[1] == 0.5


@pytest.mark.parametrize("rows", [7, 1000])
def test_tied_scores_in_chunks_equal_the_whole_matrix(rows: int, monkeypatch: pytest.MonkeyPatch):
    """As benchmarks/retrieval.py does at 10,000 x 50,000; small integers, so that many scores are equal."""
    image = torch.randint(-2, 3, (60, 6)).float()
    owner = torch.arange(60).repeat_interleave(5)[torch.randperm(300)]
    text = image[owner] + torch.randint(-2, 3, (300, 6))
    score, drawn = image @ text.T, torch.zeros(2, 3, dtype=torch.float64)
    for _ in range(400):  # ties broken at random
        order = (score + 0.5 * torch.rand_like(score)).argsort(dim=1, descending=True)
        hit = (owner[order] == torch.arange(60)[:, None]).cumsum(dim=1) > 0
        drawn[0] += torch.stack([hit[:, k - 1].double().mean() for k in (1, 5, 10)]) / 400
        back = (score.T + 0.5 * torch.rand_like(score.T)).argsort(dim=1, descending=True)
        hit = (back == owner[:, None]).cumsum(dim=1) > 0
        drawn[1] += torch.stack([hit[:, k - 1].double().mean() for k in (1, 5, 10)]) / 400
    monkeypatch.setattr(retrieval, "_SCORES_AT_ONCE", rows * 60)
    recall = retrieval_recall(image, text, owner, (1, 5, 10))
    found = torch.tensor([list(recall.image_to_text.values()), list(recall.text_to_image.values())])
    torch.testing.assert_close(found.double(), drawn, atol=0.01, rtol=0)
