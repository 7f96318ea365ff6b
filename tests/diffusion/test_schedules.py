import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from mmfound.diffusion import (
    CLEAN,
    CosineSchedule,
    DiscreteSchedule,
    EdmSchedule,
    LinearBetas,
    LinearSchedule,
    ScaledLinear,
    Schedule,
    Shifted,
    ZeroTerminal,
    add_noise,
)
from mmfound.errors import ConfigError

SCHEDULES = {
    "cosine": CosineSchedule(),
    "linear": LinearSchedule(),
    "scaled linear": ScaledLinear(),
    "EDM": EdmSchedule(),
    "discrete": DiscreteSchedule(LinearBetas()),
    "shifted": Shifted(CosineSchedule(), 0.25),
    "zero terminal": ZeroTerminal(DiscreteSchedule(LinearBetas())),
}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


@every_schedule
def test_noise_grows_with_time_in_training_and_falls_while_sampling(schedule: Schedule):
    u = torch.linspace(0, 0.999, 50, dtype=torch.float64)
    times = schedule.draw(u)
    assert (schedule.log_snr(times).diff() < 0).all()
    levels = schedule.levels(20)
    assert len(levels) == 21
    assert levels[-1] is CLEAN
    assert all(after.log_snr > before.log_snr for before, after in zip(levels, levels[1:], strict=False))


@every_schedule
def test_sampling_starts_at_the_noisiest_time(schedule: Schedule):
    assert float(schedule.times(7)[0]) == pytest.approx(schedule.ends[1])
    assert (schedule.times(7) >= schedule.ends[0]).all()


@every_schedule
def test_the_network_is_told_a_float32_number_that_grows_with_time(schedule: Schedule):
    told = schedule.network_time(schedule.times(10))
    assert told.dtype == torch.float32
    assert (told.diff() < 0).all()


@every_schedule
def test_levels_are_in_float64_and_preserve_variance(schedule: Schedule):
    level = schedule.level(schedule.draw(torch.tensor([0.1, 0.5, 0.9])))
    assert level.alpha.dtype == torch.float64
    torch.testing.assert_close(level.alpha**2 + level.sigma**2, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("time", [1e-6, 1e-3, 0.3, 0.999])
def test_cosine_is_the_published_formula(time: float):
    def signal(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    schedule = CosineSchedule()
    alpha_bar = signal(time) / signal(0)
    tolerance = 1e-15 / (1 - alpha_bar) + 1e-12  # of the formula as written, in floating point
    assert float(schedule.level(time).sigma ** 2) == pytest.approx(1 - alpha_bar, rel=tolerance, abs=0)
    assert float(schedule.level(time).alpha ** 2) == pytest.approx(alpha_bar, rel=1e-10, abs=0)


@pytest.mark.parametrize("time", [0.001, 0.2, 1.0])
@pytest.mark.parametrize(
    ("schedule", "beta"),
    [
        (LinearSchedule(), lambda t: 0.1 + t * (20 - 0.1)),
        (ScaledLinear(), lambda t: (math.sqrt(0.85) + t * (math.sqrt(12) - math.sqrt(0.85))) ** 2),
    ],
    ids=["linear", "scaled linear"],
)
def test_alpha_squared_is_the_exponential_of_the_integral_of_beta(schedule, beta, time: float):
    integral, _ = quad(beta, 0, time)
    assert float(schedule.level(time).sigma ** 2) == pytest.approx(-math.expm1(-integral), rel=1e-11, abs=0)


def test_the_linear_table_comes_near_the_continuous_schedule():
    table, schedule = DiscreteSchedule(LinearBetas()), LinearSchedule()
    times = torch.tensor([10.0, 200.0, 999.0])
    ratio = table.log_snr(times) / schedule.log_snr((times + 1) / 1000)
    torch.testing.assert_close(ratio, torch.ones(3, dtype=torch.float64), atol=0.01, rtol=0)


def test_edm_samples_at_the_published_noise_levels():
    steps, rho, low, high = 18, 7, 0.002, 80.0
    wanted = [
        (high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(steps)
    ]
    levels = EdmSchedule().levels(steps)[:-1]
    sigmas = [float(level.sigma / level.alpha) for level in levels]
    assert sigmas == pytest.approx(wanted, rel=1e-12)


def test_edm_trains_at_log_normal_noise_levels():
    u = torch.tensor([0.001, 0.31, 0.5, 0.9], dtype=torch.float64)
    level = EdmSchedule(p_mean=-1.2, p_std=1.2).level(EdmSchedule().draw(u))
    sigma = level.sigma / level.alpha
    wanted = torch.exp(torch.as_tensor(-1.2 + 1.2 * norm.ppf(u.numpy())))
    torch.testing.assert_close(sigma, wanted, rtol=1e-12, atol=0)
    assert EdmSchedule().draw(torch.tensor([0.0])).isfinite().all()


def test_edm_tells_the_network_a_thousand_times_a_quarter_of_log_sigma():
    schedule = EdmSchedule()
    time = schedule.times(5)
    c_noise = torch.log(schedule.level(time).sigma / schedule.level(time).alpha) / 4
    torch.testing.assert_close(schedule.network_time(time), (1000 * c_noise).float())


def test_a_shift_scales_the_noise_to_signal_ratio_and_leaves_the_times():
    schedule, shift = CosineSchedule(), 64 / 256
    shifted = Shifted(schedule, shift)
    times = schedule.times(9)
    before, after = schedule.level(times), shifted.level(times)
    torch.testing.assert_close(after.sigma / after.alpha, before.sigma / before.alpha / shift)
    assert torch.equal(shifted.times(9), times)
    assert torch.equal(shifted.network_time(times), schedule.network_time(times))


def test_the_mean_of_four_pixels_of_a_shifted_sample_is_as_noisy_as_one_of_half_the_size():
    torch.manual_seed(0)
    level, shifted = CosineSchedule().level(0.4), Shifted(CosineSchedule(), 0.5).level(0.4)
    x0 = torch.ones(200_000, 4, dtype=torch.float64)
    small = add_noise(x0, torch.randn_like(x0), shifted).mean(dim=1) / shifted.alpha
    assert float(small.std()) == pytest.approx(float(level.sigma / level.alpha), rel=0.01)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: CosineSchedule(offset=-1), "offset is -1"),
        (lambda: CosineSchedule(min_time=0.0), "min_time is 0.0"),
        (lambda: LinearSchedule(start=2, end=1), "from 2 to 1"),
        (lambda: EdmSchedule(sigma_min=90), "sigma_min 90"),
        (lambda: Shifted(CosineSchedule(), 0), "shift is 0"),
        (lambda: CosineSchedule().times(0), "CosineSchedule: 0 steps"),
        (lambda: CosineSchedule().train_steps, "CosineSchedule has no steps"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_value(build, said: str):
    with pytest.raises(ConfigError, match=said):
        build()
