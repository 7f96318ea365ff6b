import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from mmfound.diffusion import (
    CosineBetas,
    CosineSchedule,
    DiscreteSchedule,
    Epsilon,
    Level,
    LinearBetas,
    MinSnr,
    Uniform,
    V,
    add_noise,
    denoising_losses,
    stratified,
    variational_losses,
)
from mmfound.errors import ConfigError

SCHEDULE = DiscreteSchedule(CosineBetas())


class Sample:
    """8-bit pictures noised to some times, and what a network that is a little off makes of them."""

    def __init__(self, times: list[int], schedule: DiscreteSchedule = SCHEDULE) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (len(times), 3, 4, 4)
        pixels = torch.randint(0, 256, shape, generator=generator)
        pixels[:, :, 0] = torch.tensor([0, 255, 1, 254])  # both edges and their neighbours
        self.x0 = pixels.double() / 127.5 - 1
        self.noise, error, raw = torch.randn(3, *shape, dtype=torch.float64, generator=generator)
        self.level = schedule.level(torch.tensor(times, dtype=torch.float64))
        self.x_t = add_noise(self.x0, self.noise, self.level)
        self.output = (self.noise + 0.3 * error).requires_grad_()
        self.fraction = ((raw + 1) / 2).requires_grad_()

    def variational_losses(self, schedule: DiscreteSchedule = SCHEDULE) -> Tensor:
        return variational_losses(
            self.output, self.fraction, self.x0, self.x_t, self.level, schedule=schedule, prediction=Epsilon()
        )


def published_bound(sample: Sample, row: int, betas: np.ndarray) -> float:
    """T times the term in bits per dimension, from the tables of the papers, in numpy."""
    time, steps = int(sample.level.time[row]), len(betas)
    alpha_bar = np.cumprod(1 - betas)
    previous = np.append(1.0, alpha_bar[:-1])
    posterior = betas * (1 - previous) / (1 - alpha_bar)
    clipped = np.log(np.append(posterior[1], posterior[1:]))[time]
    x0, x_t, epsilon, fraction = (
        tensor[row].detach().numpy() for tensor in (sample.x0, sample.x_t, sample.output, sample.fraction)
    )
    estimate = np.sqrt(1 / alpha_bar[time]) * x_t - np.sqrt(1 / alpha_bar[time] - 1) * epsilon
    on_x0 = betas[time] * np.sqrt(previous[time]) / (1 - alpha_bar[time])
    on_x_t = (1 - previous[time]) * np.sqrt(1 - betas[time]) / (1 - alpha_bar[time])
    true_mean, mean = on_x0 * x0 + on_x_t * x_t, on_x0 * estimate + on_x_t * x_t
    log_variance = fraction * np.log(betas[time]) + (1 - fraction) * clipped
    if time > 0:
        nats = 0.5 * (
            -1
            + log_variance
            - clipped
            + np.exp(clipped - log_variance)
            + (true_mean - mean) ** 2 * np.exp(-log_variance)
        )
    else:
        spread = np.exp(0.5 * log_variance)
        upper = np.where(x0 > 0.999, 1.0, norm.cdf((x0 + 1 / 255 - mean) / spread))
        lower = np.where(x0 < -0.999, 0.0, norm.cdf((x0 - 1 / 255 - mean) / spread))
        nats = -np.log(np.maximum(upper - lower, 1e-12))
    return steps * float(nats.mean()) / math.log(2)


@pytest.mark.parametrize("betas", [CosineBetas(), LinearBetas(), LinearBetas(steps=50)], ids=["cosine", "linear", "50"])
def test_the_variational_bound_is_that_of_the_papers_tables(betas):
    last = betas.steps - 1
    schedule = DiscreteSchedule(betas)
    sample = Sample([0, 1, 2, last // 2, last], schedule)
    found = sample.variational_losses(schedule)
    wanted = [published_bound(sample, row, betas.table()) for row in range(5)]
    torch.testing.assert_close(found.detach(), torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=1e-9)


def test_the_variational_bound_trains_the_variance_and_not_the_mean():
    sample = Sample([0, 5, 900])
    sample.variational_losses().sum().backward()
    assert sample.output.grad is None
    assert sample.fraction.grad is not None
    assert (sample.fraction.grad != 0).flatten(1).any(dim=1).all()
    assert sample.fraction.grad.isfinite().all()


def test_a_perfect_mean_and_the_posteriors_variance_have_no_divergence():
    sample = Sample([3, 400, 999])
    sample.output = sample.noise
    sample.fraction = torch.zeros_like(sample.x0)
    torch.testing.assert_close(sample.variational_losses(), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)


def test_the_last_step_is_the_likelihood_of_eight_bits():
    """Over all 256 values the probabilities sum to 1."""
    x0 = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).reshape(256, 1)
    level = SCHEDULE.level(torch.zeros(256))
    x_t = torch.full_like(x0, 0.4)
    bits = variational_losses(
        torch.zeros_like(x0), torch.full_like(x0, 40.0), x0, x_t, level, schedule=SCHEDULE, prediction=Epsilon()
    )
    assert float((2 ** (-bits / 1000)).sum()) == pytest.approx(1, abs=1e-6)


def test_float32_losses_agree_with_float64_ones():
    sample = Sample([0, 1, 20, 999])
    wanted = sample.variational_losses().detach()
    for name in ("x0", "x_t", "output", "fraction"):
        setattr(sample, name, getattr(sample, name).detach().float())
    found = sample.variational_losses()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-4)


def test_unlikely_values_are_as_unlikely_above_the_mean_as_below_in_float32():
    level = SCHEDULE.level(torch.zeros(1))
    bin_width = 1 / 127.5
    distance = 6.5 * float(level.sigma)  # beyond what one less a probability can hold in float32
    x0 = torch.tensor([[-distance, distance]]) + torch.tensor([[-bin_width, bin_width]]) / 2
    estimate_0 = torch.zeros_like(x0)
    bits = [
        variational_losses(
            estimate_0, torch.ones_like(x), x, estimate_0, level, schedule=SCHEDULE, prediction=Epsilon()
        )
        for x in x0.T[:, None]
    ]
    torch.testing.assert_close(bits[0], bits[1], rtol=1e-5, atol=0)
    edges = [distance / float(level.sigma), (distance + bin_width) / float(level.sigma)]
    mass = norm.cdf(-edges[0]) - norm.cdf(-edges[1])
    assert float(bits[0]) == pytest.approx(-1000 * math.log2(mass), rel=1e-4)


def test_a_schedule_without_steps_has_no_variational_bound():
    sample = Sample([5])
    with pytest.raises(ConfigError, match="CosineSchedule has no steps.*DiscreteSchedule"):
        sample.variational_losses(CosineSchedule())  # pyright: ignore[reportArgumentType]


def test_the_simple_loss_is_the_weighted_mean_squared_error_of_each_sample():
    sample = Sample([0, 500])
    found = denoising_losses(
        sample.output, sample.x0, sample.noise, sample.level, prediction=Epsilon(), weight=MinSnr(5)
    )
    snr = sample.level.snr
    squares = (sample.output - sample.noise).square().flatten(1).mean(dim=1)
    torch.testing.assert_close(found, squares * snr.clamp(max=5) / snr)


def test_outputs_in_bfloat16_are_compared_in_float32():
    sample = Sample([100, 900])
    output = sample.output.detach().bfloat16()
    x0, noise = sample.x0.bfloat16(), sample.noise.bfloat16()
    found = denoising_losses(output, x0, noise, sample.level, prediction=V(), weight=Uniform())
    target = V().target(x0.float(), noise.float(), sample.level)
    wanted = (output.float() - target).square().flatten(1).mean(dim=1)
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


def test_one_sample_of_the_global_batch_falls_in_each_interval_over_ranks_and_micro_batches():
    torch.manual_seed(0)
    parts = [stratified(first, 4, 24, step=7) for first in range(0, 24, 4)]
    u = torch.cat(parts)
    assert u.dtype == torch.float64
    assert sorted((u * 24).floor().long().tolist()) == list(range(24))


def test_one_process_draws_the_intervals_that_many_draw():
    whole = (stratified(0, 24, 24, step=3) * 24).floor()
    parts = torch.cat([(stratified(first, 6, 24, step=3) * 24).floor() for first in (0, 6, 12, 18)])
    assert torch.equal(whole, parts)


def test_a_place_in_the_batch_meets_every_interval_over_the_steps():
    intervals = torch.stack([(stratified(2, 1, 8, step) * 8).floor() for step in range(800)]).long().flatten()
    counts = intervals.bincount(minlength=8)
    assert float((counts - 100).square().sum() / 100) < 24.3  # chi-square of 7 degrees, 99.9 %


def test_where_in_its_interval_a_sample_lies_comes_from_torchs_generator():
    torch.manual_seed(1)
    first = stratified(0, 1000, 1000, step=0)
    torch.manual_seed(1)
    assert torch.equal(first, stratified(0, 1000, 1000, step=0))
    place = (stratified(0, 1000, 1000, step=0) * 1000) % 1
    assert float(place.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(place.std()) == pytest.approx(12**-0.5, abs=0.02)


def test_stratified_times_have_a_steadier_mean_level_than_independent_ones():
    torch.manual_seed(0)

    def spread_of_means(draws: list[Tensor]) -> float:
        return float(torch.stack([SCHEDULE.level(SCHEDULE.draw(u)).log_snr.mean() for u in draws]).std())

    even = spread_of_means([stratified(0, 32, 32, step) for step in range(100)])
    independent = spread_of_means([torch.rand(32) for _ in range(100)])
    assert even < independent / 3


def test_levels_of_a_whole_batch_may_be_one():
    sample = Sample([200, 200])
    one = Level(sample.level.time[0], sample.level.log_snr[0])
    keywords = {"prediction": V(), "weight": MinSnr()}
    torch.testing.assert_close(
        denoising_losses(sample.output, sample.x0, sample.noise, one, **keywords),
        denoising_losses(sample.output, sample.x0, sample.noise, sample.level, **keywords),
    )
