"""Samplers against the published formulas, and on data whose answer is known."""

import math

import pytest
import torch
from torch import Tensor

from mmfound.diffusion import (
    CLEAN,
    CosineBetas,
    Ddim,
    Ddpm,
    DiscreteSchedule,
    DpmSolver2M,
    Euler,
    FixedLarge,
    FixedSmall,
    Heun,
    LearnedRange,
    Level,
    LinearBetas,
    SampleNoise,
    Sampler,
    invert,
)
from mmfound.diffusion.estimates import Estimate
from mmfound.errors import ConfigError
from tests.diffusion.denoisers import Gaussian, Given, Wavy, rho_levels, silent

EXACT = {"rtol": 1e-9, "atol": 1e-9}
TABLE = DiscreteSchedule(LinearBetas())
TIMES = [999, 950, 700, 699, 420, 100, 33, 10, 0]


def start(rows: int = 3) -> Tensor:
    return torch.randn(rows, 12, dtype=torch.float64)


def alpha_bars() -> Tensor:
    """Ho et al. 2020: products of 1 - beta, the last one that of the clean end, so that index -1 is it."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return torch.cat([(1 - betas).cumprod(0), torch.ones(1, dtype=torch.float64)])


def levels_at(times: list[int]) -> list[Level]:
    return [*(TABLE.level(time) for time in times), CLEAN]


def draws(count: int) -> list[Tensor]:
    return [start() for _ in range(count)]


@pytest.mark.parametrize("large", [False, True])
def test_ddpm_is_algorithm_2_of_ho_et_al(large):
    x, noise, network, bars = start(), draws(5), Wavy(), alpha_bars()
    times = [5, 4, 3, 2, 1, 0]
    ours = Ddpm(FixedLarge() if large else FixedSmall())(network, x, levels_at(times), Given(noise))
    for t, z in zip(times, [*noise, None], strict=True):
        alpha, bar, before = bars[t] / bars[t - 1], bars[t], bars[t - 1]
        epsilon = (x - bar.sqrt() * network(x, TABLE.level(t)).x0) / (1 - bar).sqrt()
        x = (x - (1 - alpha) / (1 - bar).sqrt() * epsilon) / alpha.sqrt()
        if z is not None:
            x = x + ((1 - alpha) if large else (1 - before) / (1 - bar) * (1 - alpha)).sqrt() * z
    torch.testing.assert_close(ours, x, **EXACT)


def test_ddpm_over_a_part_of_the_times_takes_the_betas_that_lead_from_one_to_the_next():
    x, noise, network, bars = start(), draws(8), Wavy(fraction=True), alpha_bars()
    ours = Ddpm(LearnedRange())(network, x, levels_at(TIMES), Given(noise))
    for t, to, z in zip(TIMES, [*TIMES[1:], -1], [*noise, None], strict=True):
        estimate, bar, before = network(x, TABLE.level(t)), bars[t], bars[to]
        beta = 1 - bar / before
        small = (1 - before) / (1 - bar) * beta
        x = (before.sqrt() * beta * estimate.x0 + (bar / before).sqrt() * (1 - before) * x) / (1 - bar)
        if z is not None:
            x = (
                x
                + (estimate.variance_fraction * beta.log() + (1 - estimate.variance_fraction) * small.log())
                .exp()
                .sqrt()
                * z
            )
    torch.testing.assert_close(ours, x, **EXACT)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_is_equations_12_and_16_of_song_et_al(eta):
    x, noise, network, bars = start(), draws(8), Wavy(), alpha_bars()
    ours = Ddim(eta)(network, x, levels_at(TIMES), Given(noise if eta else []))
    for t, to, z in zip(TIMES, [*TIMES[1:], -1], [*noise, 0.0], strict=True):
        x0, bar, before = network(x, TABLE.level(t)).x0, bars[t], bars[to]
        epsilon = (x - bar.sqrt() * x0) / (1 - bar).sqrt()
        deviation = eta * ((1 - before) / (1 - bar)).sqrt() * (1 - bar / before).sqrt()
        x = before.sqrt() * x0 + (1 - before - deviation**2).sqrt() * epsilon + deviation * z
    torch.testing.assert_close(ours, x, **EXACT)


def test_ddim_with_eta_1_is_ddpm_with_the_small_variance():
    x, network = start(), Wavy()
    levels = levels_at(TIMES)
    ours = Ddim(1.0)(network, x, levels, SampleNoise(1, range(3)))
    torch.testing.assert_close(ours, Ddpm(FixedSmall())(network, x, levels, SampleNoise(1, range(3))), **EXACT)


@pytest.mark.parametrize("second_order", [False, True])
def test_euler_and_heun_are_algorithm_1_of_karras_et_al(second_order):
    x, network, levels = start(), Wavy(), rho_levels(12)
    ours = (Heun(smallest_ratio=0.0) if second_order else Euler())(network, x, levels, silent())
    s = [math.exp(-float(level.log_snr) / 2) for level in levels]

    def denoised(y: Tensor, i: int) -> Tensor:
        return network(y / math.sqrt(1 + s[i] ** 2), levels[i]).x0

    y = x * math.sqrt(1 + s[0] ** 2)
    for i in range(len(s) - 1):
        slope = (y - denoised(y, i)) / s[i]
        there = y + (s[i + 1] - s[i]) * slope
        if second_order and s[i + 1] != 0:
            slope = (slope + (there - denoised(there, i + 1)) / s[i + 1]) / 2
            there = y + (s[i + 1] - s[i]) * slope
        y = there
    torch.testing.assert_close(ours, y, **EXACT)


def test_dpm_solver_is_algorithm_2_of_lu_et_al():
    x, network, levels = start(), Wavy(), rho_levels(12, clean=False)
    ours = DpmSolver2M()(network, x, levels, silent())
    alpha = [1 / math.sqrt(1 + math.exp(-float(level.log_snr))) for level in levels]
    sigma = [math.sqrt(1 - a**2) for a in alpha]
    half = [math.log(a / s) for a, s in zip(alpha, sigma, strict=True)]
    estimates = [network(x, levels[0]).x0]
    for i in range(1, len(levels)):
        h, d = half[i] - half[i - 1], estimates[-1]
        if i > 1:
            r = (half[i - 1] - half[i - 2]) / h
            d = (1 + 1 / (2 * r)) * estimates[-1] - 1 / (2 * r) * estimates[-2]
        x = sigma[i] / sigma[i - 1] * x - alpha[i] * (math.exp(-h) - 1) * d
        estimates.append(network(x, levels[i]).x0)
    torch.testing.assert_close(ours, x, **EXACT)


@pytest.mark.parametrize(
    ("sampler", "least"), [(Euler(), 0.9), (Ddim(), 0.9), (Heun(), 1.8), (DpmSolver2M(), 1.8)], ids=lambda s: str(s)
)
def test_the_error_on_gaussian_data_falls_with_the_order_of_the_method(sampler, least):
    data, errors = Gaussian(), []
    x = torch.linspace(-2, 2, 12, dtype=torch.float64)[None]
    for steps in (20, 40, 80, 160):
        levels = rho_levels(steps, clean=False)
        exact = data.exact(x, levels[0], levels[-1])
        errors.append(float((sampler(data, x, levels, silent()) - exact).abs().max()))
    orders = [math.log2(more / less) for more, less in zip(errors, errors[1:], strict=False)]
    assert min(orders) > least, (orders, errors)


def mixture(x_t: Tensor, level: Level) -> Tensor:
    """[...] E[x0 | x_t] of data that is -1 with odds .3 and N(.8, .1^2) with .7."""
    alpha, sigma = float(level.alpha), float(level.sigma)
    means, deviations = torch.tensor([-1.0, 0.8]).double(), torch.tensor([0.0, 0.1]).double()
    spread = (alpha * deviations) ** 2 + sigma**2
    apart = x_t[..., None] - alpha * means
    odds = (torch.tensor([0.3, 0.7]).double().log() - apart**2 / (2 * spread) - spread.log() / 2).softmax(-1)
    return (odds * (means + alpha * deviations**2 / spread * apart)).sum(-1)


@pytest.mark.parametrize("sampler", [Ddpm(FixedSmall()), Ddpm(FixedLarge()), Ddim()], ids=["small", "large", "ddim"])
def test_samples_of_a_mixture_have_its_moments(sampler):
    noise, steps = SampleNoise(3, range(4)), 250
    levels = DiscreteSchedule(CosineBetas()).levels(steps)
    first = noise.draw(torch.empty(4, 2500, dtype=torch.float64))
    x = sampler(lambda x_t, level: Estimate(mixture(x_t, level)), first, levels, noise)
    upper, lower = x[x > 0], x[x < 0]
    assert abs(len(upper) / x.numel() - 0.7) < 4 * math.sqrt(0.3 * 0.7 / x.numel())
    assert abs(float(upper.mean()) - 0.8) < 4 * 0.1 / math.sqrt(len(upper))
    finite_steps = 12 / steps  # the small variance is too small for them, the large one too large
    assert abs(float(upper.std()) / 0.1 - 1) < 4 / math.sqrt(2 * len(upper)) + finite_steps
    assert float((lower + 1).abs().max()) < 1e-3


@pytest.mark.parametrize("sampler", [Ddpm(), Ddim(), Ddim(0.5), Euler(), Heun(), DpmSolver2M()], ids=str)
def test_the_last_step_gives_the_estimate_itself(sampler):
    network = Wavy()
    last = levels_at([10])[0]
    seen = []

    def denoise(x, level):
        estimate = network(x, level)
        seen.append(estimate.x0)
        return estimate

    out = sampler(denoise, start(), [TABLE.level(600), TABLE.level(200), last, CLEAN], SampleNoise(0, range(3)))
    assert torch.equal(out, seen[-1])
    assert float(network.calls[-1].log_snr) == float(last.log_snr)


@pytest.mark.parametrize("sampler", [Ddpm(), Ddim(), Ddim(0.5), Euler(), Heun(0.0), DpmSolver2M()], ids=str)
def test_pure_noise_is_a_level_to_start_from(sampler):
    nothing = Level(torch.tensor(0.0).double(), torch.tensor(-math.inf).double())
    almost = Level(torch.tensor(0.0).double(), torch.tensor(-60.0).double())
    rest = rho_levels(6, high=10.0)
    x = start()
    from_nothing = sampler(Wavy(), x, [nothing, *rest], SampleNoise(0, range(3)))
    assert from_nothing.isfinite().all()
    if not isinstance(sampler, Heun | DpmSolver2M):  # the gain in log-SNR, infinite or not, counts in these
        near = sampler(Wavy(), x, [almost, *rest], SampleNoise(0, range(3)))
        torch.testing.assert_close(from_nothing, near, rtol=1e-6, atol=1e-6)


def test_heun_does_not_extrapolate_over_the_first_step_of_a_cosine_schedule():
    levels = DiscreteSchedule(CosineBetas()).levels(20)
    data, x = Gaussian(), start()
    exact = data.exact(x, levels[0], levels[-2])
    with_euler = (Heun()(data, x, levels[:-1], silent()) - exact).abs().max()
    published = (Heun(0.0)(data, x, levels[:-1], silent()) - exact).abs().max()
    assert with_euler < published / 3


@pytest.mark.parametrize("sampler", [Ddpm(), Ddim(0.5), Heun(), DpmSolver2M()], ids=str)
def test_the_sample_keeps_its_dtype(sampler: Sampler):
    x = start().float()
    assert sampler(Wavy(fraction=True), x, levels_at(TIMES), SampleNoise(0, range(3))).dtype == torch.float32


def test_inverting_gives_what_ddim_leads_from():
    data, found, back = Gaussian(), [], []
    x0 = torch.linspace(-1, 1.5, 12, dtype=torch.float64)[None]
    for steps in (100, 200, 400):
        levels = rho_levels(steps, high=20.0)
        x = invert(data, x0, levels)
        found.append(float((x - data.exact(x0, CLEAN, levels[0])).abs().max()))
        back.append(float((Ddim()(data, x, levels, silent()) - x0).abs().max()))
    assert found[2] < 0.55 * found[1] < 0.55**2 * found[0] < 0.02
    assert back[2] < 0.55 * back[1] < 0.55**2 * back[0] < 0.02


@pytest.mark.parametrize("clean", [False, True])
def test_refinements_bring_an_inversion_back_to_the_start(clean):
    data, levels = Gaussian(), rho_levels(30, high=20.0, clean=clean)
    x0 = torch.linspace(-1, 1.5, 12, dtype=torch.float64)[None]

    def lost(refinements: int) -> float:
        x = invert(data, x0, levels, refinements=refinements)
        return float((Ddim()(data, x, levels, silent()) - x0).abs().max())

    assert lost(60) < 1e-9 < 1e-3 < lost(0)


def test_eta_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="eta is 1.5"):
        Ddim(1.5)
