from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmfound.errors import ConfigError, DataError
from mmfound.evaluation import Accuracy, ZeroShot
from tests.evaluation.fakes import RGB, ColourModel, Colours, FakeData


class ColourClassifier(nn.Module):
    """Logits by distance to the six colours."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def classify(self, image: Tensor) -> Tensor:
        return -torch.cdist(image.mean(dim=(2, 3)), RGB) * self.scale


def evaluate(*args: Any, **kwargs: Any) -> dict[str, float]:
    with torch.no_grad():
        return Accuracy(*args, **kwargs).evaluate(ColourClassifier(), FakeData())


def test_accuracy_is_the_share_of_pictures_whose_largest_logit_is_their_label():
    found = evaluate(Colours(12, wrong=3))
    assert found["top1"] == pytest.approx(9 / 12)
    assert found["mean_per_class"] == pytest.approx((1 / 1 + 1 / 2 + 1 / 2 + 2 / 3 + 1 + 1) / 6)


def test_a_prediction_in_the_samples_group_is_right():
    # Wrong labels are those of the next colour: red -> green, green -> blue, blue -> cyan; two of them stay cold.
    found = evaluate(Colours(12, wrong=3), group_field="warmth")
    assert found["top1"] == pytest.approx(11 / 12)
    assert found["mean_per_class"] == pytest.approx((1 + 6 / 7) / 2)


def test_zero_shot_scores_groups_the_same_way():
    with torch.no_grad():
        evaluator = ZeroShot(Colours(12, wrong=3), templates="a {}", group_field="warmth")
        found = evaluator.evaluate(ColourModel(), FakeData())
    assert found["top1"] == pytest.approx(11 / 12)


def test_a_missing_group_field_is_named():
    with pytest.raises(DataError, match="no 'warmness' in its meta"):
        evaluate(Colours(), group_field="warmness")


def test_a_model_that_does_not_classify_is_refused():
    with pytest.raises(ConfigError, match="ColourModel has no classify.*Classification"):
        Accuracy(Colours()).check(ColourModel(), FakeData())


def test_labels_beyond_the_models_classes_are_refused():
    class Two(nn.Module):
        def classify(self, image: Tensor) -> Tensor:
            return image.mean(dim=(2, 3))[:, :2]

    model = Two()
    model.scale = nn.Parameter(torch.ones(()))
    with torch.no_grad(), pytest.raises(DataError, match="has a label 5, but the model scores 2 classes"):
        Accuracy(Colours()).evaluate(model, FakeData())
