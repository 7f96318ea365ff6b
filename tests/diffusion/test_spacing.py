import pytest

from mmfound.diffusion.spacing import spaced
from mmfound.errors import ConfigError


def released_sections(total: int, counts: list[int]) -> list[int]:
    """The published respacing, place by place."""
    times, start = [], 0
    for number, count in enumerate(counts):
        size = total // len(counts) + (1 if number < total % len(counts) else 0)
        place = 0.0
        for _ in range(count):
            times.append(start + round(place))
            place += (size - 1) / (count - 1) if count > 1 else 1
        start += size
    return times


def test_fast27_is_what_glides_upsampler_is_sampled_at():
    times = spaced(1000, "fast27", 27)
    assert times[:2] == [0, 22]
    assert times[-2:] == [800, 997]
    assert times[:-1] == released_sections(1000, [10, 10, 3, 2, 2])[:-1]


def test_a_count_goes_from_the_first_time_to_the_last():
    times = spaced(1000, "100", 100)
    assert times[:4] == [0, 10, 20, 30]
    assert times[-3:] == [979, 989, 999]


def test_counts_are_spread_as_released_to_the_last_rounding():
    for count in range(1, 1001):
        assert spaced(1000, str(count), count) == released_sections(1000, [count])
    assert spaced(301, "10, 15,20", 45) == released_sections(301, [10, 15, 20])


def test_ddim50_strides_by_20_from_0():
    assert spaced(1000, "ddim50", 50) == list(range(0, 1000, 20))


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_rules_are_those_of_diffusers(spacing: str):
    scheduler = pytest.importorskip("diffusers").DDIMScheduler(timestep_spacing=spacing)
    for steps in (1, 2, 7, 27, 50, 100, 333, 999, 1000):
        scheduler.set_timesteps(steps)
        if scheduler.timesteps.tolist() == [0]:
            with pytest.raises(ConfigError, match="next to no noise"):
                spaced(1000, spacing, steps)
            continue
        assert spaced(1000, spacing, steps)[::-1] == scheduler.timesteps.tolist(), steps


def test_trailing_alone_starts_at_the_last_time_for_every_number():
    for steps in range(1, 1001):
        times = spaced(1000, "trailing", steps)
        assert times[-1] == 999
        assert len(set(times)) == steps
        assert times[0] >= 0


@pytest.mark.parametrize(
    ("spacing", "steps", "said"),
    [
        ("fast27", 50, "fast27' is 27 times.*50 steps"),
        ("quick", 10, "spacing 'quick' is not known"),
        ("0", 10, "spacing '0' is not known"),
        ("ddim600", 600, "no whole stride takes 600 of 1000"),
        ("1001", None, "takes 1001 times from a section of 1000"),
        ([5, 5], None, r"\[5, 5\]"),
        ([], None, r"\[\]"),
        ([-1, 5], None, r"\[-1, 5\]"),
    ],
)
def test_a_spacing_that_cannot_be_is_refused_with_its_value(spacing, steps, said: str):
    with pytest.raises(ConfigError, match=said):
        spaced(1000, spacing, steps)
