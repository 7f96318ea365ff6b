import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmfound.diffusion import CosineBetas, CosineSchedule, DiscreteSchedule, Level
from mmfound.errors import ConfigError, DataError
from mmfound.evaluation import NoisedZeroShot
from tests.evaluation.fakes import ColourModel, Colours, FakeData

GLIDE = DiscreteSchedule(CosineBetas())


class NoisedColours(ColourModel):
    """Sees the colour through the noise, to a level; notes what it is given."""

    def __init__(self, blind_below: float = -math.inf) -> None:
        super().__init__()
        self.blind_below, self.given = blind_below, []

    def embed_noised(self, x_t: Tensor, level: Level) -> Tensor:
        self.given.append((x_t, level))
        if float(level.log_snr) < self.blind_below:
            return torch.ones(len(x_t), 3) / math.sqrt(3)
        return self.embed_image((x_t / float(level.alpha) + 1) / 2)


def evaluate(model: nn.Module, data: Any = None, **kwargs: Any) -> tuple[dict[str, float], NoisedZeroShot]:
    source, schedule = Colours(kwargs.pop("count", 12)), kwargs.pop("schedule", GLIDE)
    evaluator = NoisedZeroShot(source, schedule, templates="a {}", **kwargs)
    with torch.no_grad():
        return evaluator.evaluate(model, data or FakeData()), evaluator


def test_accuracy_is_told_by_level_beside_chance():
    found, evaluator = evaluate(NoisedColours(blind_below=0.0), levels=3)
    assert set(found) == {"top1_t0", "top1_t500", "top1_t999", "top1", "chance"}
    assert found["top1_t0"] == 1.0
    assert found["top1_t999"] == pytest.approx(1 / 6)  # all classes alike: ties are broken at random
    assert found["top1"] == pytest.approx((found["top1_t0"] + found["top1_t500"] + found["top1_t999"]) / 3)
    assert found["chance"] == pytest.approx(1 / 6)
    assert [row[0] for row in evaluator.tables[0].rows] == [0, 500, 999]


def test_pictures_are_noised_by_the_level_that_the_model_is_told():
    model = NoisedColours()
    evaluate(model, levels=4, count=4)
    for x_t, level in model.given:
        noise = (x_t - x_t.mean(dim=(2, 3), keepdim=True)).std()
        assert noise.item() == pytest.approx(float(level.sigma), rel=0.15)
    assert [float(level.time) for _, level in model.given] == [0, 333, 666, 999]


def test_a_picture_s_noise_is_the_same_in_every_batch_and_at_every_level_and_the_seed_s():
    def seen(batch_size: int, seed: int = 0) -> Tensor:
        model = NoisedColours()
        evaluate(model, FakeData(batch_size), levels=2, seed=seed, schedule=CosineSchedule())
        return torch.cat([x_t for x_t, level in model.given if float(level.time) > 0.5])

    assert torch.equal(seen(4), seen(12))
    assert not torch.allclose(seen(4), seen(4, seed=1))


def test_a_model_that_takes_no_noised_pictures_and_a_source_without_names_are_refused():
    with pytest.raises(ConfigError, match="NoisedZeroShot 'noised' needs a model with .* has no embed_noised"):
        evaluate(ColourModel())
    with pytest.raises(ConfigError, match="levels is 1"):
        NoisedZeroShot(Colours(), GLIDE, levels=1)

    class Nameless(Colours):
        def __init__(self) -> None:
            super().__init__()
            self.classes = ()

    with pytest.raises(ConfigError, match="Nameless has no class names"):
        NoisedZeroShot(Nameless(), GLIDE).evaluate(NoisedColours(), FakeData())


def test_pictures_without_labels_are_refused():
    class Unlabelled(FakeData):
        def eval_batches(self, *args: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:
            for batch in super().eval_batches(*args, **kwargs):
                yield {name: value for name, value in batch.items() if name != "label"}

    with pytest.raises(DataError, match="Colours has none"):
        evaluate(NoisedColours(), Unlabelled())
