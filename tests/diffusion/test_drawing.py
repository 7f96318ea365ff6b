"""`draw` puts the parts together."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mmfound.diffusion import (
    ClassifierFree,
    CosineBetas,
    Ddim,
    Ddpm,
    DiscreteSchedule,
    DpmSolver2M,
    Dynamic,
    Euler,
    FixedLarge,
    FixedSmall,
    Heun,
    LearnedRange,
    SampleNoise,
    Sampling,
    Static,
    V,
    draw,
)
from mmfound.diffusion.clamping import clamped
from mmfound.diffusion.conditioning import Condition, Conditioner, draws
from mmfound.diffusion.estimates import Estimate
from mmfound.diffusion.spaces import PixelSpace
from mmfound.diffusion.stage import Stage
from mmfound.errors import ConfigError

SIZE = 8


class Convolutions(nn.Module):
    """A small random network; a condition's vector shifts its inner channels."""

    def __init__(self, out: int = 3) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, out, 3, padding=1)
        self.conditions: list[Condition] = []

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        self.conditions.append(condition)
        shift = torch.sin(time / 100).reshape(-1, 1, 1, 1)
        if condition.vector is not None:
            shift = shift + condition.vector[:, :, None, None]
        return self.second(torch.tanh(self.first(x) + shift))


class Label(Conditioner):
    """Vectors of labels; the null is a vector of its own."""

    reads: ClassVar[tuple[str, ...]] = ("label",)

    def __init__(self, drop: float) -> None:
        super().__init__(drop)
        self.vectors = nn.Embedding(5, 16)

    def forward(self, batch: Mapping[str, Any], dropped_B: Tensor) -> Condition:
        return Condition(vector=self.vectors(batch["label"].masked_fill(dropped_B, 4)))


def stage(drop: float = 0.2, out: int = 3, variance=None, **sampling: Any) -> Stage:
    torch.manual_seed(0)
    settings = Sampling(**{"steps": 10, "threshold": Static(), **sampling})
    schedule = DiscreteSchedule(CosineBetas())
    return Stage(Convolutions(out), schedule, V(), PixelSpace(SIZE), [Label(drop)], variance, settings).eval()


LABELS = {"label": torch.tensor([0, 1, 2, 3, 0, 1])}
SAMPLERS = [Ddpm(), Ddim(), Ddim(1.0), Euler(), Heun(), DpmSolver2M()]


@pytest.mark.parametrize("threshold", [Static(), Dynamic(90.0)], ids=str)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_samples_are_the_same_in_whatever_batch_they_are_drawn(sampler, threshold):
    model = stage(sampler=sampler, threshold=threshold, guidance=ClassifierFree(2.0))
    together = draw(model, LABELS, SampleNoise(3, range(6)))
    assert together.shape == (6, 3, SIZE, SIZE)
    assert together.dtype == torch.float32
    for rows in ([0, 1], [2], [5, 3, 4]):
        some = draw(model, {"label": LABELS["label"][rows]}, SampleNoise(3, rows))
        torch.testing.assert_close(some, together[rows], rtol=1e-5, atol=2e-6)
    assert not torch.allclose(together[0], together[4], atol=0.01)  # the same label, other noise


def test_a_label_changes_the_sample_and_guidance_changes_it_further():
    model = stage()
    zeros, ones = ({"label": torch.full((2,), label)} for label in (0, 1))
    plain, other, guided = (
        draw(model, batch, SampleNoise(3, [0, 1]), Sampling(None, 10, guidance))
        for batch, guidance in ((zeros, None), (ones, None), (zeros, ClassifierFree(3.0)))
    )
    assert not torch.allclose(plain, other, atol=0.01)
    assert not torch.allclose(plain, guided, atol=0.01)


def test_guidance_takes_the_null_that_training_drops_to():
    model = stage(guidance=ClassifierFree(3.0, passes=2))
    draw(model, LABELS, SampleNoise(0, range(6)))
    told, null = model.network.conditions[:2]
    expected = model.condition(LABELS, 6, drop="all")
    assert torch.equal(null.vector, expected.vector)
    assert torch.equal(told.vector, model.condition(LABELS, 6).vector)
    assert not torch.equal(told.vector, null.vector)


def test_scale_1_needs_no_null():
    model = stage(drop=0.0)
    alone, scale_1 = (
        draw(model, LABELS, SampleNoise(0, range(6)), Sampling(guidance=guidance, steps=5))
        for guidance in (None, ClassifierFree(1.0))
    )
    assert torch.equal(alone, scale_1)


@pytest.mark.parametrize("conditioners", [0, 1])
def test_guidance_without_a_conditioner_that_is_dropped_is_refused(conditioners):
    model = stage(drop=0.0)
    if not conditioners:
        model.conditioners = nn.ModuleList()
    named = r"Label \(drop 0.0\)" if conditioners else "none"
    with pytest.raises(ConfigError, match=rf"ClassifierFree\(scale=2.0.*{named}.*train with drop"):
        draw(model, LABELS, SampleNoise(0, range(6)), Sampling(guidance=ClassifierFree(2.0)))


@pytest.mark.parametrize("variance", [FixedSmall(), FixedLarge(), LearnedRange()], ids=lambda v: type(v).__name__)
def test_ancestral_steps_take_the_variance_of_the_stage_or_their_own(variance):
    model = stage(variance=variance, out=6 if isinstance(variance, LearnedRange) else 3)
    by_stage, own, other = (
        draw(model, LABELS, SampleNoise(0, range(6)), Sampling(Ddpm(v), 10, threshold=Static()))
        for v in (None, variance, FixedSmall() if isinstance(variance, FixedLarge) else FixedLarge())
    )
    assert torch.equal(by_stage, own)
    assert not torch.allclose(by_stage, other, atol=0.01)


def test_wrappers_see_the_guided_estimate_before_the_threshold_and_what_is_known_after_it():
    seen = []

    def wrap(denoise):
        def wrapped(x_t, level):
            estimate = denoise(x_t, level)
            seen.append(estimate.x0)
            return replace(estimate, x0=estimate.x0 + 50)

        return wrapped

    known, mask = torch.full((6, 3, SIZE, SIZE), 2.0), torch.zeros(6, 1, SIZE, SIZE, dtype=torch.bool)
    mask[..., :3] = True
    model = stage(guidance=ClassifierFree(4.0))
    sample = draw(model, LABELS, SampleNoise(0, range(6)), wrap=wrap, known=(known, mask))
    assert torch.equal(sample[..., :3], known[..., :3])
    assert torch.equal(sample[..., 3:], torch.ones_like(sample[..., 3:]))
    assert max(float(x0.abs().max()) for x0 in seen) > 1.5


def test_a_start_takes_the_last_steps_only_from_the_noised_sample():
    model, begun = stage(threshold=None), []

    def wrap(denoise):
        def wrapped(x_t, level):
            begun.append((x_t, level))
            return denoise(x_t, level)

        return wrapped

    x0 = torch.rand(6, 3, SIZE, SIZE)
    draw(model, LABELS, SampleNoise(0, range(6)), wrap=wrap, start=(x0, 0.3))
    assert len(begun) == 3
    x_t, level = begun[0]
    assert float(level.time) == float(model.schedule.levels(10)[7].time)
    noise = SampleNoise(0, range(6)).draw(x0)
    torch.testing.assert_close(x_t, float(level.alpha) * x0 + float(level.sigma) * noise)


def test_the_less_strength_the_more_of_the_start_is_left():
    model, x0 = stage(), torch.rand(6, 3, SIZE, SIZE)
    far = [
        float((draw(model, LABELS, SampleNoise(0, range(6)), start=(x0, strength)) - x0).abs().mean())
        for strength in (0.01, 0.5, 1.0)
    ]
    assert far == sorted(far)
    from_noise = draw(model, LABELS, SampleNoise(0, range(6)))
    torch.testing.assert_close(
        draw(model, LABELS, SampleNoise(0, range(6)), start=(x0, 1.0)), from_noise, rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ConfigError, match=f"strength is {strength}"):
        draw(stage(), LABELS, SampleNoise(0, range(6)), start=(torch.zeros(6, 3, SIZE, SIZE), strength))


def test_temperature_is_a_factor_on_the_first_noise():
    begun = []

    def wrap(denoise):
        def wrapped(x_t, level):
            begun.append(x_t)
            return denoise(x_t, level)

        return wrapped

    draw(stage(temperature=0.5, sampler=Ddpm()), LABELS, SampleNoise(0, range(6)), wrap=wrap)
    torch.testing.assert_close(begun[0], 0.5 * SampleNoise(0, range(6)).draw(begun[0]))
    assert abs(float(begun[1].std()) - 1) < 0.15


@pytest.mark.parametrize(("setting", "value"), [("steps", 0), ("temperature", 0.0)])
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ConfigError, match=f"{setting} is {value}"):
        Sampling(**{setting: value})


def test_no_gradients_are_kept():
    assert not draw(stage(), LABELS, SampleNoise(0, range(6))).requires_grad


class Noisy(Label):
    """A random vector in place of the label's: the condition and the null differ only where they draw differently."""

    def forward(self, batch: Mapping[str, Any], dropped_B: Tensor) -> Condition:
        return Condition(vector=draws.normal(batch, torch.empty(len(dropped_B), 16), 7))


def test_the_condition_and_the_null_draw_the_same():
    torch.manual_seed(0)
    schedule = DiscreteSchedule(CosineBetas())
    model = Stage(Convolutions(), schedule, V(), PixelSpace(SIZE), [Noisy(0.1)]).eval()
    batch = {"label": torch.zeros(3, dtype=torch.int64)}
    guided, plain = (
        draw(model, batch, SampleNoise(0, range(3)), Sampling(steps=4, guidance=ClassifierFree(scale)))
        for scale in (5.0, 1.0)
    )
    torch.testing.assert_close(guided, plain)


def test_a_mask_of_numbers_is_known_from_a_half_up():
    mask = torch.tensor([0.0, 0.3, 0.5, 1.0]).expand(1, 1, 8, 4).repeat(1, 1, 1, 2)
    held = clamped(lambda x, level: Estimate(x, None), torch.ones(1, 3, 8, 8), mask)
    x0 = held(torch.zeros(1, 3, 8, 8), DiscreteSchedule(CosineBetas()).level(torch.tensor(3.0))).x0
    assert x0[0, 0, 0].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
