from fractions import Fraction

import numpy as np
import pytest
import torch

from mmfound.diffusion import (
    CosineBetas,
    CosineSchedule,
    DiscreteSchedule,
    LinearBetas,
    ScaledLinearBetas,
    ZeroTerminal,
)
from mmfound.errors import ConfigError

EVERY_TIME = torch.arange(1000, dtype=torch.float64)


@pytest.mark.parametrize(
    ("betas", "published"),
    [
        (CosineBetas(), {"beta_schedule": "squaredcos_cap_v2"}),
        (LinearBetas(), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
        (ScaledLinearBetas(), {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
    ],
    ids=["cosine", "linear", "scaled linear"],
)
def test_alpha_bar_is_that_of_diffusers(betas, published):
    scheduler = pytest.importorskip("diffusers").DDPMScheduler(num_train_timesteps=1000, **published)
    level = DiscreteSchedule(betas).level(EVERY_TIME)
    torch.testing.assert_close((level.alpha**2).float(), scheduler.alphas_cumprod, rtol=1e-3, atol=2e-7)
    early = slice(0, 900)  # its float32 product of numbers near 0 drifts after that
    torch.testing.assert_close((level.alpha**2).float()[early], scheduler.alphas_cumprod[early], rtol=2e-5, atol=0)


def test_one_less_alpha_bar_is_exact_at_the_first_times():
    betas = LinearBetas().table()
    kept = Fraction(1)
    sigma = DiscreteSchedule(LinearBetas()).level(EVERY_TIME).sigma
    for time in range(3):
        kept *= 1 - Fraction(float(betas[time]))
        assert float(sigma[time] ** 2) == pytest.approx(float(1 - kept), rel=1e-14, abs=0)


def test_the_cosine_table_is_the_continuous_schedule_up_to_its_cap():
    times = EVERY_TIME[:-1]
    table, continuous = DiscreteSchedule(CosineBetas()), CosineSchedule()
    torch.testing.assert_close(table.log_snr(times), continuous.log_snr((times + 1) / 1000), rtol=0, atol=1e-12)
    torch.testing.assert_close(continuous.network_time((times + 1) / 1000), table.network_time(times))


def test_the_last_cosine_beta_is_capped():
    assert CosineBetas().table()[-1] == 0.999
    level = DiscreteSchedule(CosineBetas()).level(999.0)
    assert float(level.alpha**2) == pytest.approx(2.43e-9, rel=2e-3)


def test_minus_one_is_the_clean_end():
    level = DiscreteSchedule(LinearBetas()).level(torch.tensor([0.0, -1.0]))
    assert level.log_snr.isinf().tolist() == [False, True]
    assert level.alpha[1] == 1
    assert level.sigma[1] == 0


def test_training_draws_each_time_equally_often():
    u = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    times = DiscreteSchedule(LinearBetas()).draw(u)
    assert torch.equal(times.long().bincount(), torch.full((1000,), 4))
    assert DiscreteSchedule(LinearBetas()).draw(torch.tensor([1 - 1e-16], dtype=torch.float64)) == 999


def test_the_network_is_told_the_original_time_however_few_are_sampled_at():
    schedule = DiscreteSchedule(CosineBetas(), spacing="fast27")
    assert schedule.network_time(schedule.times(27))[:3].tolist() == [997, 800, 799]


def test_sampling_at_given_times():
    schedule = DiscreteSchedule(CosineBetas(), spacing=[3, 500, 999])
    assert schedule.times(3).tolist() == [999, 500, 3]


def test_tables_are_built_whatever_the_default_device():
    with torch.device("meta"):
        schedule = ZeroTerminal(DiscreteSchedule(CosineBetas()))
        levels = schedule.levels(10)
    assert all(np.isfinite(float(level.alpha)) for level in levels)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: CosineBetas(steps=1), "CosineBetas: 1 steps"),
        (lambda: CosineBetas(max_beta=1.0), "max_beta 1.0.*ZeroTerminal"),
        (lambda: LinearBetas(end=1.5), "to 1.5"),
        (lambda: ScaledLinearBetas(start=0), "from 0"),
        (lambda: DiscreteSchedule(LinearBetas(steps=100), spacing=[0, 100]), r"\[0, 100\].*0 to 99"),
        (lambda: DiscreteSchedule(LinearBetas()).times(1001), "1001 steps; ask for 1 to 1000"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_value(build, said: str):
    with pytest.raises(ConfigError, match=said):
        build()
