"""Same samples as the schedulers of diffusers from the same noise and network; see docs/diffusion_parity.md."""

from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
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
    ScaledLinearBetas,
    Static,
    add_noise,
)
from mmfound.diffusion.estimates import Denoiser, Estimate
from tests.diffusion.denoisers import Given, silent

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers
CLOSE = {"rtol": 0.0, "atol": 1e-5}
NAMES = {"linear": LinearBetas(), "scaled_linear": ScaledLinearBetas(), "squaredcos_cap_v2": CosineBetas()}
RANGES = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012), "squaredcos_cap_v2": (1e-4, 0.02)}
SMOOTH = ["linear", "scaled_linear"]


def theirs(scheduler: type, betas: str, **settings):
    start, end = RANGES[betas]
    return scheduler(beta_schedule=betas, beta_start=start, beta_end=end, **settings)


def epsilon(x: Tensor, time: float) -> Tensor:
    """A network: [B, 3, 4, 4] -> [B, 3, 4, 4] of about the noise."""
    turned = x + 0.3 * x.roll(1, dims=-1) - 0.2 * x.roll(1, dims=1)
    return 0.9 * x + 0.3 * torch.sin(2 * turned + time / 300)


def fraction(x: Tensor) -> Tensor:
    """A network's raw variance, somewhat past its bounds."""
    return 1.2 * torch.sin(3 * x)


def table(betas: str) -> Tensor:
    """Ours of alpha_bar, in float64."""
    return DiscreteSchedule(NAMES[betas]).level(torch.arange(1000)).alpha ** 2


def levels_at(betas: str, times: list[int], clean: bool = True) -> list[Level]:
    schedule = DiscreteSchedule(NAMES[betas])
    return [*(schedule.level(time) for time in times), *([CLEAN] if clean else [])]


def denoiser(learned: bool = False) -> Denoiser:
    def denoise(x: Tensor, level: Level) -> Estimate:
        x0 = (x - float(level.sigma) * epsilon(x, float(level.time))) / float(level.alpha)
        return Estimate(x0, (fraction(x) + 1) / 2 if learned else None)

    return denoise


def first(**settings) -> Tensor:
    return torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(1), **settings)


def follow(scheduler, x: Tensor, network: Callable[[Tensor, float], Tensor], **step) -> Tensor:
    for time in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, time)
        x = scheduler.step(network(scaled, float(time)), time, x, **step).prev_sample
    return x


TRAILING = list(range(999, 0, -40))
LEADING = list(range(960, -1, -40))


def ancestral(
    kind: str, betas: str, time: int, to: int, x: Tensor, noise: Tensor, exact: bool
) -> tuple[Tensor, Tensor]:
    """Our step and theirs; with `exact` their table is ours, in float64."""
    variance = {"fixed_small": FixedSmall(), "fixed_large": FixedLarge(), "learned_range": LearnedRange()}[kind]
    scheduler = theirs(DDPMScheduler, betas, variance_type=kind, clip_sample=True)
    scheduler.set_timesteps(timesteps=[time, to])
    if exact:
        scheduler.alphas_cumprod = table(betas)
    output = epsilon(x, time)
    if kind == "learned_range":
        output = torch.cat([output, fraction(x)], dim=1)
    with patch("diffusers.schedulers.scheduling_ddpm.randn_tensor", return_value=noise):
        expected = scheduler.step(output, time, x).prev_sample
    denoise = Static()(denoiser(kind == "learned_range"))
    return Ddpm(variance)(denoise, x, levels_at(betas, [time, to], clean=False), Given([noise])), expected


def noised(betas: str, time: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A sample that can be met at a time, and more noise."""
    clean, noise, more = torch.randn(3, 4, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)
    return add_noise(clean.clamp(-1, 1), noise, levels_at(betas, [time])[0]), more


STEPS = [(999, 998), (500, 499), (100, 99), (999, 979), (519, 499), (59, 39), (39, 19)]
KINDS = ["fixed_small", "fixed_large", "learned_range"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("betas", list(NAMES))
def test_an_ancestral_step_is_that_of_diffusers(kind, betas):
    for time, to in STEPS:
        ours, expected = ancestral(kind, betas, time, to, *noised(betas, time, torch.float32), exact=False)
        torch.testing.assert_close(ours, expected, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("betas", list(NAMES))
def test_an_ancestral_step_is_that_of_diffusers_with_its_table_in_float64_at_any_time(kind, betas):
    for time, to in [*STEPS, (11, 10), (10, 9), (2, 1), (1, 0)]:
        ours, expected = ancestral(kind, betas, time, to, *noised(betas, time, torch.float64), exact=True)
        torch.testing.assert_close(ours, expected, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("betas", list(NAMES))
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("exact", [False, True], ids=["stock", "table in float64"])
def test_ddim_is_that_of_diffusers_with_epsilon_derived_from_the_clipped_x0(eta, betas, spacing, exact):
    scheduler = theirs(DDIMScheduler, betas, timestep_spacing=spacing, clip_sample=True)
    scheduler.set_timesteps(25)
    if exact:
        scheduler.alphas_cumprod = table(betas)
    times = TRAILING if spacing == "trailing" else LEADING[:-1]
    if betas == "squaredcos_cap_v2" and not exact:  # 1 - 0.999 of time 999 has few digits in float32
        times = [time for time in times if time < 999]
    start = first(dtype=torch.float64)
    draws = list(torch.randn(len(times), *start.shape, generator=torch.Generator().manual_seed(2)).double())
    x = start
    for time, noise in zip(times, draws, strict=True):
        extra = {"eta": eta, "variance_noise": noise} if eta else {}
        x = scheduler.step(epsilon(x, time), time, x, use_clipped_model_output=True, **extra).prev_sample
    levels = levels_at(betas, times) if spacing == "trailing" else levels_at(betas, LEADING, clean=False)
    ours = Ddim(eta)(Static()(denoiser()), start, levels, Given(draws))
    torch.testing.assert_close(ours, x, rtol=0.0, atol=1e-10 if exact else 1e-5)


@pytest.mark.parametrize("betas", SMOOTH)
@pytest.mark.parametrize("sampler", [Euler(), Heun(smallest_ratio=0.0)], ids=["euler", "heun"])
def test_euler_and_heun_are_those_of_diffusers(betas, sampler):
    times = [950, 800, 600, 400, 250, 150, 80, 40, 10]
    scheduler = theirs(EulerDiscreteScheduler if isinstance(sampler, Euler) else HeunDiscreteScheduler, betas)
    scheduler.set_timesteps(timesteps=times)
    levels = levels_at(betas, times)
    x = first(dtype=torch.float64)
    expected = follow(scheduler, x / float(levels[0].alpha), epsilon)
    torch.testing.assert_close(sampler(denoiser(), x, levels, silent()), expected, **CLOSE)


@pytest.mark.parametrize("betas", list(NAMES))
def test_dpm_solver_is_that_of_diffusers(betas):
    times = [950, 800, 600, 400, 250, 150, 80, 40, 10]
    scheduler = theirs(DPMSolverMultistepScheduler, betas)
    scheduler.set_timesteps(timesteps=times)
    expected = follow(scheduler, first(), epsilon)
    torch.testing.assert_close(DpmSolver2M()(denoiser(), first(), levels_at(betas, times), silent()), expected, **CLOSE)
