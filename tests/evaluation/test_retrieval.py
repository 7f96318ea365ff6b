from typing import Any

import pytest
import torch

from mmfound.errors import ConfigError, DataError
from mmfound.evaluation import Retrieval
from tests.evaluation.fakes import ColourModel, Colours, FakeData


def evaluate(*args: Any, **kwargs: Any) -> dict[str, float]:
    with torch.no_grad():
        return Retrieval(*args, **kwargs).evaluate(ColourModel(), FakeData())


def test_distinct_pictures_with_their_captions_are_all_found():
    found = evaluate(Colours(6, captions=("a {}", "the {}")), ks=(1, 3))
    assert found == dict.fromkeys(["image_to_text_r1", "image_to_text_r3", "text_to_image_r1", "text_to_image_r3"], 1.0)


def test_equal_captions_share_the_hit_as_pairs_and_are_one_as_captions():
    assert evaluate(Colours(12), ks=(1,)) == pytest.approx({"image_to_text_r1": 0.5, "text_to_image_r1": 0.5})
    one = evaluate(Colours(12), ks=(1,), positives="caption")
    assert one == {"image_to_text_r1": 1.0, "text_to_image_r1": 1.0}


def test_max_samples_spreads_over_the_source():
    evaluator = Retrieval(Colours(12), max_samples=3)
    assert [evaluator.source[i]["key"] for i in range(len(evaluator.source))] == ["0", "4", "8"]


def test_a_source_without_captions_is_refused():
    with pytest.raises(DataError, match="Colours has no captions"):
        evaluate(Colours(6, captions=()))


@pytest.mark.parametrize(("options", "message"), [({"ks": [0]}, "ks is"), ({"max_samples": 0}, "max_samples is 0")])
def test_counts_below_one_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        Retrieval(Colours(6), **options)
