"""Which of a process's T times to sample at."""

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np

from mmfound.errors import ConfigError


def spaced(total: int, spacing: str | Sequence[int], steps: int | None) -> list[int]:
    """Times to sample at, rising.

    - "trailing": every T / steps-th, counted from the noisiest down.
    - "leading": every (T // steps)-th, counted from 0 up; what is left over at the noisy end is left out, so that
      sampling starts at a time where the training data still shows through.
    - "linspace": evenly from 0 to T - 1.
    - "100", "10,10,3,2,2": so many from each of as many equal sections of the T times, evenly from the first to the
      last of a section (GLIDE and its predecessors); "ddim50": so many, at the largest stride that gives them.
    - "fast27": "10,10,3,2,2" with the last time less 2, which GLIDE's upsampler is sampled with.
    - a list: these times.

    Args:
        total: T.
        spacing: the rule.
        steps: how many, or None for as many as the rule says; the first three say nothing.
    Raises:
        ConfigError: when the rule cannot give that many, is none, or is left with time 0 alone.
    """
    if isinstance(spacing, str) and spacing in _BY_NUMBER:
        assert steps is not None
        times = [int(time) for time in _BY_NUMBER[spacing](total, steps)]
        if times == [0] and total > 1:
            raise ConfigError(
                f"spacing {spacing!r} takes a single step at time 0, where there is next to no noise; ask for 2 steps "
                "or more, or take 'trailing'."
            )
        return times
    times = _respaced(total, spacing) if isinstance(spacing, str) else _listed(total, spacing)
    if steps is not None and steps != len(times):
        raise ConfigError(
            f"spacing {_shown(spacing)} is {len(times)} times to sample at, and {steps} steps are asked for. Ask for "
            f"{len(times)}, or choose a spacing of any number: {', '.join(_BY_NUMBER)}."
        )
    return times


def _trailing(total: int, steps: int) -> np.ndarray:
    return np.round(total - np.arange(steps) * (total / steps))[::-1] - 1


def _leading(total: int, steps: int) -> np.ndarray:
    return np.arange(steps) * (total // steps)


def _linspace(total: int, steps: int) -> np.ndarray:
    return np.round(np.linspace(0, total - 1, steps))


_BY_NUMBER: dict[str, Callable[[int, int], np.ndarray]] = {
    "trailing": _trailing,
    "leading": _leading,
    "linspace": _linspace,
}


def _respaced(total: int, spacing: str) -> list[int]:
    if spacing == "fast27":
        times = _sections(total, [10, 10, 3, 2, 2], spacing)
        return [*times[:-1], total - 3]
    if spacing.startswith("ddim") and spacing[4:].isdecimal():
        return _strided(total, int(spacing[4:]), spacing)
    counts = spacing.split(",")
    if all(count.strip().isdecimal() and int(count) > 0 for count in counts):
        return _sections(total, [int(count) for count in counts], spacing)
    raise ConfigError(
        f"spacing {spacing!r} is not known. Give one of {', '.join(_BY_NUMBER)}, counts such as '100' or "
        "'10,10,3,2,2', 'ddim50', 'fast27', or a list of times."
    )


def _sections(total: int, counts: Sequence[int], spacing: str) -> list[int]:
    times: list[int] = []
    start = 0
    for number, count in enumerate(counts):
        size = total // len(counts) + (number < total % len(counts))
        if count > size:
            raise ConfigError(f"spacing {spacing!r} takes {count} times from a section of {size} of the {total}.")
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        places = accumulate([0.0] + [stride] * (count - 1))  # summed, since released code rounds the sums
        times += [start + round(place) for place in places]
        start += size
    return times


def _strided(total: int, count: int, spacing: str) -> list[int]:
    for stride in range(1, total + 1):
        times = range(0, total, stride)
        if len(times) == count:
            return list(times)
    raise ConfigError(f"spacing {spacing!r}: no whole stride takes {count} of {total} times; give '{count}' instead.")


def _listed(total: int, times: Sequence[int]) -> list[int]:
    known = sorted(set(times))
    if not times or len(known) < len(times) or known[0] < 0 or known[-1] >= total:
        raise ConfigError(
            f"spacing {_shown(times)}: a list of times is of different whole numbers from 0 to {total - 1}."
        )
    return known


def _shown(spacing: str | Sequence[int]) -> str:
    text = repr(spacing if isinstance(spacing, str) else list(spacing))
    return text if len(text) < 60 else f"{text[:55]}...]"
