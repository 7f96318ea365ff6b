import pytest
import torch

from mmfound.evaluation import Retrieval, ZeroShot
from tests.evaluation.fakes import ColourModel, Colours, FakeData
from tests.ranks import run_on_ranks


def metrics_and_passes() -> tuple[dict[str, float], tuple[int, int]]:
    source = Colours(13, wrong=3, captions=("a {}", "the {}", "{}"))
    model, data = ColourModel(), FakeData(batch_size=2)
    with torch.no_grad():
        found = ZeroShot(source, templates="a {}").evaluate(model, data)
        found |= Retrieval(source, ks=(1, 2, 5)).evaluate(model, data)
    return found, (model.image_passes, model.text_passes)


def test_two_ranks_with_unequal_shares_get_what_one_gets_in_equally_many_passes():
    alone, _ = metrics_and_passes()
    assert 0 < alone["text_to_image_r2"] < 1
    ranks = run_on_ranks(2, metrics_and_passes)
    for found, _ in ranks:
        assert found == pytest.approx(alone, abs=1e-12)
    assert ranks[0][1] == ranks[1][1]  # sharded weights would wait for ever
