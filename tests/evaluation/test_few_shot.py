from statistics import fmean, stdev
from typing import Any

import pytest
import torch

from mmfound.errors import ConfigError, DataError
from mmfound.evaluation import FewShot, LogisticRegression, Neighbours
from mmfound.evaluation.few_shot import draw
from tests.evaluation.fakes import COLOURS, ColourModel, Colours, FakeData

LABEL = torch.arange(60) % 6


@torch.no_grad()
def run(few: FewShot) -> dict[str, float]:
    return few.evaluate(ColourModel(), FakeData())


def drawn(shots: int, seed: int) -> Any:
    return draw("evaluator FewShot", LABEL, LABEL, COLOURS, shots, seed)


def test_draws_have_so_many_of_each_class_and_follow_from_the_seed():
    few, more = drawn(2, 1), drawn(5, 1)
    assert LABEL[few].bincount().tolist() == [2] * 6
    assert len(set(more.tolist())) == 30
    assert set(few.tolist()) < set(more.tolist())
    assert torch.equal(few, drawn(2, 1))
    assert not torch.equal(few, drawn(2, 2))


def test_mean_and_standard_error_are_over_the_seeds():
    few = FewShot(Colours(12), Colours(18, wrong=6), classifier=Neighbours(1), shots=[1, 3], seeds=[0, 1, 2, 3])
    found = run(few)
    (table,) = few.tables
    shots, mean, error, *scores = table.rows[0]
    assert (shots, len(scores), len(table.columns)) == (1, 4, 7)
    assert stdev(scores) > 0
    assert (mean, error) == (pytest.approx(fmean(scores)), pytest.approx(stdev(scores) / 2))
    assert (found["1_shot_top1"], found["1_shot_standard_error"]) == (mean, error)


def test_one_seed_has_no_standard_error():
    found = run(FewShot(Colours(12), Colours(18), classifier=LogisticRegression(C=10.0), shots=[2], seeds=[0]))
    assert found == {"2_shot_top1": 1.0}


def test_fewer_samples_than_shots_are_refused():
    with pytest.raises(DataError, match="class 'red' has 3 training samples, fewer than 4 shots"):
        run(FewShot(Colours(12), Colours(18), classifier=Neighbours(1), shots=[2, 4]))


def test_class_that_is_asked_for_and_never_shown_is_refused():
    with pytest.raises(DataError, match="class 'cyan' has 0 training samples"):
        run(FewShot(Colours(12), Colours(3), classifier=Neighbours(1), shots=[1]))


def test_setting_to_choose_without_val_is_refused():
    with pytest.raises(ConfigError, match="no val_source to choose it on"):
        FewShot(Colours(), Colours()).check(ColourModel(), FakeData())


def test_seeds_twice_are_refused():
    with pytest.raises(ConfigError, match=r"seeds \[1, 1\] distinct"):
        FewShot(Colours(), Colours(), seeds=[1, 1])
