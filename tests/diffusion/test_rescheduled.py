import pytest
import torch

from mmfound.diffusion import (
    CLEAN,
    X0,
    CosineBetas,
    CosineSchedule,
    DiscreteSchedule,
    Edm,
    Epsilon,
    FixedSmall,
    LinearBetas,
    MinSnr,
    ScaledLinearBetas,
    Schedule,
    V,
    ZeroTerminal,
    add_noise,
    check,
    denoising_losses,
    posterior_mean,
)
from mmfound.errors import ConfigError

TIMES = torch.arange(1000, dtype=torch.float64)


@pytest.mark.parametrize("betas", [ScaledLinearBetas(), LinearBetas(), CosineBetas()], ids=lambda b: type(b).__name__)
def test_alpha_bar_is_that_of_diffusers_rescaling(betas):
    scheduling = pytest.importorskip("diffusers.schedulers.scheduling_ddim")
    rescaled = scheduling.rescale_zero_terminal_snr(torch.from_numpy(betas.table()))
    level = ZeroTerminal(DiscreteSchedule(betas)).level(TIMES)
    torch.testing.assert_close(level.alpha**2, torch.cumprod(1 - rescaled, dim=0), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    "schedule", [DiscreteSchedule(ScaledLinearBetas()), CosineSchedule()], ids=["discrete", "continuous"]
)
def test_the_first_level_stays_and_the_last_has_no_signal(schedule: Schedule):
    first, last = schedule.ends
    zero = ZeroTerminal(schedule)
    assert float(zero.level(first).log_snr) == pytest.approx(float(schedule.level(first).log_snr), abs=1e-12)
    assert float(zero.level(last).alpha) == 0
    assert float(zero.level(last).sigma) == 1
    assert not zero.level(last).is_clean
    assert torch.equal(zero.times(9), schedule.times(9))


def test_the_clean_end_stays_clean():
    zero = ZeroTerminal(DiscreteSchedule(ScaledLinearBetas()))
    assert zero.level(-1.0).is_clean
    assert zero.train_steps == 1000


def test_v_goes_through_a_level_without_signal():
    torch.manual_seed(0)
    schedule = ZeroTerminal(DiscreteSchedule(CosineBetas()))
    level, to = schedule.level(torch.full((2,), 999.0)), schedule.level(torch.full((2,), 998.0))
    x0, noise, output = torch.randn(3, 2, 3, 4, 4, dtype=torch.float64)
    x_t = add_noise(x0, noise, level)
    assert torch.equal(x_t, noise)
    torch.testing.assert_close(V().target(x0, noise, level), -x0)
    torch.testing.assert_close(V().to_x0(output, x_t, level), -output)
    losses = denoising_losses(output, x0, noise, level, prediction=V(), weight=MinSnr())
    assert torch.equal(losses, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(posterior_mean(x0, x_t, level, to), to.alpha[0] * x0)
    torch.testing.assert_close(FixedSmall().log_variance(level, to, None), 2 * to.sigma.log())
    assert FixedSmall().log_variance(level, CLEAN, None).isfinite().all()


@pytest.mark.parametrize("prediction", [V(), X0(), Edm()], ids=lambda prediction: type(prediction).__name__)
def test_predictions_that_know_x0_without_signal_are_accepted(prediction):
    check(ZeroTerminal(DiscreteSchedule(LinearBetas())), prediction)


def test_the_noise_is_refused_where_there_is_no_signal_and_accepted_where_there_is():
    check(DiscreteSchedule(CosineBetas()), Epsilon())
    with pytest.raises(ConfigError, match=r"Epsilon cannot be used with ZeroTerminal.*999.*Predict V"):
        check(ZeroTerminal(DiscreteSchedule(CosineBetas())), Epsilon())
    with pytest.raises(ConfigError, match=r"Epsilon cannot be used with CosineSchedule"):
        check(CosineSchedule(max_time=1.0), Epsilon())  # where rounding alone leaves a signal
