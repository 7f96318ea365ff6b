import re
from typing import Any

import pytest
import torch
from torch import nn

from mmfound.errors import ConfigError, DataError
from mmfound.evaluation import ZeroShot
from tests.evaluation.fakes import COLOURS, ColourModel, Colours, FakeData


def evaluate(*args: Any, **kwargs: Any) -> dict[str, float]:
    with torch.no_grad():
        return ZeroShot(*args, **kwargs).evaluate(ColourModel(), FakeData())


def test_accuracy_counts_the_pictures_whose_nearest_class_is_their_label():
    found = evaluate(Colours(12, wrong=3), templates=["a photo of a {}", "the {}"])
    assert set(found) == {"top1", "top5", "mean_per_class"}
    assert found["top1"] == pytest.approx(9 / 12)


def test_top5_is_left_out_for_five_classes_or_fewer():
    assert set(evaluate(Colours(5), classes=COLOURS[:5], class_field="number")) == {"top1", "mean_per_class"}


def test_a_meta_field_scores_other_classes_by_their_names():
    spelled = {"warm": "red magenta yellow", "cold": "green blue cyan"}
    found = evaluate(Colours(12, wrong=3), templates="a {}", class_field="warmth", replace=spelled)
    assert found["top1"] == pytest.approx(11 / 12)  # one of the three wrong labels is of the other warmth
    assert found["mean_per_class"] == pytest.approx((1 + 6 / 7) / 2)


def test_too_few_class_names_are_refused_naming_both_counts():
    message = "evaluator ZeroShot 'zero_shot' has 3 class names, but Colours has 6 classes"
    with pytest.raises(DataError, match=message):
        ZeroShot(Colours(), classes=COLOURS[:3]).check(ColourModel(), FakeData())


def test_labels_beyond_the_class_names_are_refused_naming_both_counts():
    with pytest.raises(DataError, match="has 2 class names, but Colours has 6 classes"):
        evaluate(Colours(), classes=["red", "blue"], class_field="number")


def test_an_unknown_class_name_in_the_meta_field_is_refused():
    with pytest.raises(DataError, match=re.escape("warmth 'warm' is none of the 2 classes")):
        evaluate(Colours(), classes=["hot", "cold"], class_field="warmth")


def test_a_field_that_samples_lack_is_named():
    with pytest.raises(DataError, match="12 of 12 samples of Colours have no 'taste' in its meta"):
        evaluate(Colours(), class_field="taste")


def test_a_model_that_cannot_embed_is_refused_naming_what_it_lacks():
    message = "evaluator ZeroShot 'zero_shot' needs a model with embed_image and embed_text, but Linear has no"
    with pytest.raises(ConfigError, match=message):
        ZeroShot(Colours()).check(nn.Linear(1, 1), FakeData())


def test_a_recipe_without_tokenizer_is_refused():
    data = FakeData()
    data.tokenizer = None
    with pytest.raises(ConfigError, match="needs a tokenizer"):
        ZeroShot(Colours()).check(ColourModel(), data)
