from typing import Any

import pytest
import torch

from mmfound.data import Subset
from mmfound.errors import ConfigError, DataError
from mmfound.evaluation import Classifier, LogisticRegression, Neighbours, Probe, RidgeRegression
from mmfound.evaluation.classifiers import Sweep
from mmfound.evaluation.features import Labelled
from tests.evaluation.fakes import COLOURS, ColourModel, Colours, FakeData

EVERY = [LogisticRegression(), RidgeRegression(), Neighbours(3)]


class Recording(Classifier):
    """Notes what it is fitted to, and calls everything red."""

    symbol = "secret"

    def __init__(self) -> None:
        super().__init__("recording", None)
        self.seen: list[tuple[int, float]] = []

    def sweep(self, train: Labelled, val: Labelled, classes: int) -> Sweep:
        self.seen.append((len(train.label_N), len(val.label_N)))
        return Sweep(0.5, {0.25: 0.1, 0.5: 0.9})

    def fit(self, train: Labelled, classes: int, setting: float) -> Any:
        self.seen.append((len(train.label_N), setting))
        return lambda feature_ND: torch.eye(classes)[0].expand(len(feature_ND), classes)


@torch.no_grad()
def run(probe: Probe, model: Any = None) -> dict[str, float]:
    return probe.evaluate(model or ColourModel(), FakeData())


@pytest.mark.parametrize("features", ["tower", "embedding"])
def test_every_classifier_learns_the_colours_and_misses_the_wrong_labels(features: Any):
    probe = Probe(Colours(24, wrong=3), Colours(36), val_source=Colours(12), classifiers=EVERY, features=features)
    found = run(probe)
    for name in ("logistic", "ridge", "knn"):
        assert found[f"{name}_top1"] == pytest.approx(21 / 24)
        assert found[f"{name}_mean_per_class"] == pytest.approx((3 / 3 + 3 / 4 + 3 / 4 + 4 / 5 + 4 / 4 + 4 / 4) / 6)
    tables = {table.name: table for table in probe.tables}
    green = {row[0]: row for row in tables["ridge_per_class"].rows}["green"]
    assert green == ["green", 4, pytest.approx(3 / 4), "red", 1]
    assert [sum(row[1:]) for row in tables["ridge_confusion"].rows] == [3, 4, 4, 5, 4, 4]
    assert max(score for _, score in tables["logistic_sweep"].rows) == 1.0


@pytest.mark.parametrize(("refit", "fitted_to"), [(True, 42), (False, 30)])
def test_choice_is_made_on_val_and_the_refit_is_on_both(refit: bool, fitted_to: int):
    recording = Recording()
    found = run(Probe(Colours(12), Colours(30), val_source=Colours(12), classifiers=[recording], refit=refit))
    assert recording.seen == [(30, 12), (fitted_to, 0.5)]
    assert found["recording_secret"] == 0.5
    assert found["recording_top1"] == pytest.approx(1 / 6)


def test_a_setting_that_is_given_needs_no_val():
    probe = Probe(Colours(12), Colours(36), classifiers=[LogisticRegression(C=1.0), RidgeRegression(alpha=1.0)])
    found = run(probe)
    assert (found["logistic_top1"], found["logistic_C"], found["ridge_alpha"]) == (1.0, 1.0, 1.0)


def test_no_source_to_choose_on_is_refused_before_the_first_step():
    with pytest.raises(ConfigError, match=r"'probe': C of logistic is to be chosen, but there is no val_source"):
        Probe(Colours(), Colours()).check(ColourModel(), FakeData())


def test_model_without_the_features_is_refused():
    class Embeds(torch.nn.Module):
        def embed_image(self, image: torch.Tensor) -> torch.Tensor:
            return image

    with pytest.raises(ConfigError, match="Embeds has no image_features"):
        Probe(Colours(), Colours(), val_source=Colours()).check(Embeds(), FakeData())
    Probe(Colours(), Colours(), val_source=Colours(), features="embedding").check(Embeds(), FakeData())


def test_training_samples_of_one_class_are_refused():
    one = Subset(Colours(24), every=6)
    with pytest.raises(DataError, match="the 4 training samples are of 1 class; a probe needs two"):
        run(Probe(Colours(), one, val_source=Colours()))


def test_sources_of_other_classes_are_refused():
    other = Colours()
    other.classes = [*COLOURS[:5], "white"]
    with pytest.raises(DataError, match="and their class 5 differs"):
        Probe(Colours(), other, val_source=Colours()).check(ColourModel(), FakeData())


def test_features_that_are_not_finite_are_refused():
    model = ColourModel()
    model.scale.data.fill_(torch.nan)
    with pytest.raises(DataError, match="features of 12 of 12 samples of Colours are not finite"):
        run(Probe(Colours(), Colours(), val_source=Colours()), model)


def test_two_classifiers_of_one_name_are_refused():
    with pytest.raises(ConfigError, match=r"named \['knn', 'knn'\]"):
        Probe(Colours(), Colours(), classifiers=[Neighbours(1), Neighbours(5)])


def test_a_setting_of_zero_is_refused():
    with pytest.raises(ConfigError, match="LogisticRegression: C is 0"):
        LogisticRegression(C=0)


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ConfigError, match="Neighbours: temperature is 0"):
        Neighbours(temperature=0.0)
