"""Guidance and thresholds change the estimate of x0 alone, as their formulas say."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from mmfound.diffusion import (
    X0,
    ClassifierFree,
    Ddim,
    Edm,
    Epsilon,
    Level,
    V,
    clip_guided,
)
from mmfound.diffusion.conditioning import Condition
from mmfound.diffusion.estimates import Denoiser, Estimate
from mmfound.diffusion.levels import spread
from mmfound.errors import ConfigError
from tests.diffusion.denoisers import Gaussian, level_of, rho_levels, silent

EXACT = {"rtol": 1e-12, "atol": 1e-12}
B, L, D = 4, 5, 12


@dataclass
class Attends:
    """A network of x, the level and every slot of the condition, no row of which depends on another."""

    seen: list[Condition] = field(default_factory=list)

    def denoiser_of(self, condition: Condition) -> Denoiser:
        def denoise(x_t: Tensor, level: Level) -> Estimate:
            self.seen.append(condition)
            assert condition.tokens is not None
            assert condition.vector is not None
            assert condition.concat is not None
            scores_BL = torch.einsum("bld,bd->bl", condition.tokens, x_t)
            if condition.mask is not None:
                scores_BL = scores_BL.masked_fill(~condition.mask, -torch.inf)
            read_BD = torch.einsum("bl,bld->bd", scores_BL.softmax(-1), condition.tokens)
            out = read_BD + condition.vector + condition.concat[:, 0, 0] * x_t + spread(level.log_snr, x_t)
            return Estimate(torch.tanh(out), torch.sigmoid(out))

        return denoise


def condition(length: int = L, masked: bool = True) -> Condition:
    mask = torch.arange(length) < torch.tensor([[length], [2], [3], [1]]) if masked else None
    random = [torch.randn(*shape).double() for shape in ((B, length, D), (B, D), (B, 1, 1, D))]
    return Condition(random[0], mask, random[1], random[2])


@pytest.fixture
def x_t() -> Tensor:
    return torch.randn(B, D, dtype=torch.float64)


LEVEL = level_of(0.7)


def test_scale_1_is_the_condition_and_scale_0_the_null_and_neither_asks_for_the_other(x_t):
    told, null = condition(), condition(length=1, masked=False)
    for scale, one, interval in ((1.0, told, None), (1.0, told, (-9.0, 9.0)), (0.0, null, None)):
        network = Attends()
        ours = ClassifierFree(scale, interval=interval)(network.denoiser_of, told, null)(x_t, LEVEL)
        assert len(network.seen) == 1
        expected = network.denoiser_of(one)(x_t, LEVEL)
        assert torch.equal(ours.x0, expected.x0)
        assert torch.equal(ours.variance_fraction, expected.variance_fraction)
    assert not ClassifierFree(1.0).needs_null
    assert ClassifierFree(0.0).needs_null


@pytest.mark.parametrize("passes", [1, 2])
def test_guidance_is_the_condition_and_more_of_its_difference_to_the_null(x_t, passes):
    network, told, null = Attends(), condition(), condition(length=1, masked=False)
    with_it, without = network.denoiser_of(told)(x_t, LEVEL), network.denoiser_of(null)(x_t, LEVEL)
    ours = ClassifierFree(3.0, passes=passes)(network.denoiser_of, told, null)(x_t, LEVEL)
    torch.testing.assert_close(ours.x0, with_it.x0 + 2.0 * (with_it.x0 - without.x0), **EXACT)


def test_the_variance_is_that_of_the_condition(x_t):
    network, told, null = Attends(), condition(), condition(length=1, masked=False)
    expected = network.denoiser_of(told)(x_t, LEVEL).variance_fraction
    for passes in (1, 2):
        ours = ClassifierFree(3.0, rescale=0.5, passes=passes)(network.denoiser_of, told, null)(x_t, LEVEL)
        torch.testing.assert_close(ours.variance_fraction, expected, **EXACT)


@pytest.mark.parametrize("lengths", [(L, L), (L, 1), (4, 7)])
@pytest.mark.parametrize("masked", [(True, True), (True, False), (False, False)])
def test_one_batch_of_twice_the_size_gives_what_two_passes_give(x_t, lengths, masked):
    network = Attends()
    told, null = (condition(length, m) for length, m in zip(lengths, masked, strict=True))
    for level in (LEVEL, Level(torch.zeros(B).double(), torch.linspace(-3, 3, B).double())):
        one, two = (
            ClassifierFree(2.5, passes=passes)(network.denoiser_of, told, null)(x_t, level) for passes in (1, 2)
        )
        torch.testing.assert_close(one.x0, two.x0, **EXACT)
        torch.testing.assert_close(one.variance_fraction, two.variance_fraction, **EXACT)


@pytest.mark.parametrize("prediction", [Epsilon(), X0(), V(), Edm()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("s", [0.05, 1.0, 40.0])
def test_guidance_of_any_prediction_is_that_of_x0(x_t, prediction, s):
    network, told, null, level = Attends(), condition(), condition(), level_of(s)
    outputs = [prediction.from_x0(network.denoiser_of(one)(x_t, level).x0, x_t, level) for one in (told, null)]
    guided = prediction.to_x0(outputs[1] + 4.0 * (outputs[0] - outputs[1]), x_t, level)
    ours = ClassifierFree(4.0)(network.denoiser_of, told, null)(x_t, level).x0
    torch.testing.assert_close(ours, guided, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("passes", [1, 2])
def test_outside_of_its_interval_the_condition_alone_is_asked(x_t, passes):
    told, null = condition(), condition()
    guidance = ClassifierFree(3.0, interval=(-2.0, 1.0), passes=passes)
    for log_snr, inside in ((-2.1, False), (-1.9, True), (0.9, True), (1.1, False)):
        network = Attends()
        level = Level(torch.tensor(0.0).double(), torch.tensor(log_snr).double())
        ours = guidance(network.denoiser_of, told, null)(x_t, level)
        assert len(network.seen) == (passes if inside else 1)
        alone = network.denoiser_of(told)(x_t, level)
        assert torch.equal(ours.x0, alone.x0) != inside


def test_the_null_alone_is_taken_inside_of_an_interval_too(x_t):
    network, told, null = Attends(), condition(), condition()
    ours = ClassifierFree(0.0, interval=(-5.0, 5.0))(network.denoiser_of, told, null)(x_t, LEVEL)
    torch.testing.assert_close(ours.x0, network.denoiser_of(null)(x_t, LEVEL).x0, **EXACT)


def test_rescaling_brings_each_sample_to_the_deviation_of_the_condition(x_t):
    network, told, null = Attends(), condition(), condition()
    with_it = network.denoiser_of(told)(x_t, LEVEL).x0
    plain, half, full = (
        ClassifierFree(6.0, rescale=rescale)(network.denoiser_of, told, null)(x_t, LEVEL).x0
        for rescale in (0.0, 0.5, 1.0)
    )
    torch.testing.assert_close(full.std(1), with_it.std(1), **EXACT)
    torch.testing.assert_close(half, (plain + full) / 2, **EXACT)
    torch.testing.assert_close(full, plain * (with_it.std(1) / plain.std(1))[:, None], **EXACT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": -1.0}, "scale is -1.0"),
        ({"scale": 2.0, "rescale": 1.5}, "rescale is 1.5"),
        ({"scale": 2.0, "interval": (1.0, -1.0)}, r"interval is \[1.0, -1.0\]"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        ClassifierFree(**arguments)


class Likelihood:
    """log p(c | x_t) for Gaussian data and c = x0 + N(0, noise^2): what a perfect noised classifier would give."""

    def __init__(self, data: Gaussian, c: Tensor, noise: float) -> None:
        self.data, self.c, self.noise = data, c, noise

    def __call__(self, x_t: Tensor, level: Level) -> Tensor:
        variance = self.data.posterior_variance(level) + self.noise**2
        return -((self.c - self.data(x_t, level).x0) ** 2).sum(1) / (2 * variance)

    def posterior(self) -> tuple[Tensor, float]:
        """Mean and deviation of the data given c."""
        v, n = self.data.deviation**2, self.noise**2
        return (n * self.data.mean + v * self.c) / (v + n), (v * n / (v + n)) ** 0.5


@pytest.mark.parametrize("s", [0.05, 1.0, 40.0])
def test_a_perfect_score_turns_the_data_into_those_under_the_condition(x_t, s):
    data, level = Gaussian(), level_of(s)
    likelihood = Likelihood(data, torch.randn(B, D, dtype=torch.float64), noise=0.4)
    mean, deviation = likelihood.posterior()
    conditional = Gaussian(mean, deviation)  # type: ignore[arg-type]
    guided = clip_guided(data, likelihood, 1.0)
    torch.testing.assert_close(guided(x_t, level).x0, conditional(x_t, level).x0, rtol=1e-10, atol=1e-10)


def test_moving_x0_is_moving_epsilon_by_sigma_times_the_gradient(x_t):
    data, level = Gaussian(), LEVEL
    likelihood, scale = Likelihood(data, torch.ones(B, D).double(), 0.4), 2.5
    x = x_t.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(likelihood(x, level).sum(), x)
    epsilon = Epsilon().from_x0(data(x_t, level).x0, x_t, level) - level.sigma * scale * gradient
    ours = clip_guided(data, likelihood, scale)(x_t, level).x0
    torch.testing.assert_close(ours, Epsilon().to_x0(epsilon, x_t, level), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_samples_guided_by_a_score_where_no_gradients_are_kept(mode):
    data, levels = Gaussian(), rho_levels(30)
    likelihood = Likelihood(data, torch.full((B, D), -0.9).double(), noise=0.1)
    mean, _ = likelihood.posterior()
    with mode():
        x = torch.randn(B, D, dtype=torch.float64)
        plain = Ddim()(data, x, levels, silent())
        guided = Ddim()(clip_guided(data, likelihood, 1.0), x, levels, silent())
    assert not guided.requires_grad
    assert float((plain.mean() - mean.mean()).abs()) > 0.5
    assert float((guided.mean() - mean.mean()).abs()) < 0.1


def test_a_score_is_not_asked_outside_of_its_interval_or_where_there_is_no_signal(x_t):
    def never(x: Tensor, level: Level) -> Tensor:
        raise AssertionError

    data = Gaussian()
    nothing = Level(torch.tensor(0.0).double(), torch.tensor(-torch.inf).double())
    assert torch.equal(clip_guided(data, never, 1.0)(x_t, nothing).x0, data(x_t, nothing).x0)
    outside = clip_guided(data, never, 1.0, interval=(1.0, 2.0))
    assert torch.equal(outside(x_t, LEVEL).x0, data(x_t, LEVEL).x0)
