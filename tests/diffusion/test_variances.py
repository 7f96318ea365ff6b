import numpy as np
import pytest
import torch

from mmfound.diffusion import (
    CLEAN,
    CosineBetas,
    DiscreteSchedule,
    FixedLarge,
    FixedSmall,
    LearnedRange,
    LinearBetas,
    posterior_mean,
)

SCHEDULES = {"cosine": DiscreteSchedule(CosineBetas()), "linear": DiscreteSchedule(LinearBetas())}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


class Tables:
    """The published tables of a process respaced to some of the times, entry by entry."""

    def __init__(self, schedule: DiscreteSchedule, times: list[int]) -> None:
        alpha_bar = (schedule.level(torch.tensor(times, dtype=torch.float64)).alpha ** 2).numpy()
        previous = np.append(1.0, alpha_bar[:-1])
        self.betas = 1 - alpha_bar / previous
        self.posterior = self.betas * (1 - previous) / (1 - alpha_bar)
        self.clipped = np.append(self.posterior[1], self.posterior[1:])
        self.on_x0 = self.betas * np.sqrt(previous) / (1 - alpha_bar)
        self.on_x_t = (1 - previous) * np.sqrt(1 - self.betas) / (1 - alpha_bar)


def steps_of(schedule: DiscreteSchedule, times: list[int]):
    """(place, level, to, before) of each step among the times, rising."""
    levels = [CLEAN, *(schedule.level(float(time)) for time in times)]
    for place in range(len(times) - 1):
        yield place, levels[place + 1], levels[place], levels[place + 2]


TIMES = {"every time": list(range(1000)), "a few": [0, 22, 44, 100, 500, 900, 997, 998]}
every_spacing = pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)


@every_schedule
@every_spacing
def test_bounds_are_those_of_the_published_tables(schedule: DiscreteSchedule, times: list[int]):
    tables = Tables(schedule, times)
    for place, level, to, before in list(steps_of(schedule, times))[:: max(len(times) // 20, 1)]:
        small = float(FixedSmall().log_variance(level, to, None, before))
        assert small == pytest.approx(np.log(tables.clipped[place]), abs=1e-7)
        large = float(FixedLarge().log_variance(level, to, None, before))
        published = tables.betas[place] if place else tables.clipped[0]
        assert large == pytest.approx(np.log(published), abs=1e-7)


@every_schedule
def test_a_learned_variance_runs_between_the_bounds_in_the_log_domain(schedule: DiscreteSchedule):
    learned = LearnedRange()
    for place, level, to, before in steps_of(schedule, TIMES["a few"]):
        fractions = torch.linspace(0, 1, 5, dtype=torch.float64).reshape(1, 5)
        found = learned.log_variance(level, to, fractions, before)[0]
        tables = Tables(schedule, TIMES["a few"])
        assert float(found[0]) == pytest.approx(np.log(tables.clipped[place]), abs=1e-7)
        assert float(found[-1]) == pytest.approx(np.log(tables.betas[place]), abs=1e-7)
        torch.testing.assert_close(found.diff(), found.diff()[:1].expand(4), rtol=1e-9, atol=1e-9)
        assert (found.diff() > 0).all()


def test_levels_of_a_batch_are_taken_sample_by_sample():
    schedule = SCHEDULES["cosine"]
    time = torch.tensor([0.0, 1.0, 700.0], dtype=torch.float64)
    fraction = torch.rand(3, 2, 4, 4, dtype=torch.float64)
    whole = LearnedRange().log_variance(
        schedule.level(time), schedule.level(time - 1), fraction, schedule.level(time + 1)
    )
    for row in range(3):
        alone = LearnedRange().log_variance(
            schedule.level(time[row]), schedule.level(time[row] - 1), fraction[row], schedule.level(time[row] + 1)
        )
        torch.testing.assert_close(whole[row], alone)


def test_without_the_step_before_the_step_to_the_clean_end_has_one_bound():
    level = SCHEDULES["linear"].level(40.0)
    fraction = torch.tensor([[0.0, 0.5, 1.0]])
    found = LearnedRange().log_variance(level, CLEAN, fraction)
    torch.testing.assert_close(found, torch.full((1, 3), float(2 * level.sigma.log())))


def test_bounds_are_exact_between_levels_that_are_close():
    schedule = SCHEDULES["linear"]
    level = schedule.level(500.0)
    to = type(level)(level.time, level.log_snr + 1e-9)
    found = float(FixedSmall().log_variance(level, to, None))
    assert found == pytest.approx(float((to.sigma**2).log()) + np.log(1e-9), abs=1e-6)


@every_schedule
@every_spacing
def test_the_posterior_mean_is_that_of_the_published_tables(schedule: DiscreteSchedule, times: list[int]):
    torch.manual_seed(0)
    x0, x_t = torch.randn(2, 1, 6, dtype=torch.float64)
    tables = Tables(schedule, times)
    for place, level, to, _ in list(steps_of(schedule, times))[:: max(len(times) // 20, 1)]:
        published = tables.on_x0[place] * x0 + tables.on_x_t[place] * x_t
        torch.testing.assert_close(posterior_mean(x0, x_t, level, to), published, rtol=1e-9, atol=1e-9)


def test_ancestral_steps_with_the_true_x0_lead_to_the_marginal():
    """x_t ~ N(alpha_t x0, sigma_t^2) and then q(x_s | x_t, x0) is N(alpha_s x0, sigma_s^2), in closed form."""
    schedule = SCHEDULES["cosine"]
    level, to = schedule.level(800.0), schedule.level(300.0)
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    slope = float(posterior_mean(zero, one, level, to))
    mean = float(posterior_mean(one, level.alpha * one, level, to))
    variance = slope**2 * float(level.sigma**2) + float(FixedSmall().log_variance(level, to, None).exp())
    assert mean == pytest.approx(float(to.alpha))
    assert variance == pytest.approx(float(to.sigma**2))
