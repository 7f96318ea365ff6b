"""The search for the best of many values on a logarithmic scale."""

from collections.abc import Callable

STEPS_A_DECADE = 8
COARSE = 2 * STEPS_A_DECADE


def log_sweep(score: Callable[[float], float], lowest: int = -6, highest: int = 6) -> tuple[float, dict[float, float]]:
    """The value of the best score between 10**lowest and 10**highest, to an eighth of a decade.

    Every second decade first, then the interval around the peak is halved until it is an eighth of a decade, so that
    of 97 values about 15 are tried. Of equal scores the smallest value's wins.

    Args:
        score: the larger the better; called with each value once, first with ascending ones.
        lowest: exponent of the first value.
        highest: of the last.

    Returns:
        The value, and the scores of all values tried, ascending.

    Source: Radford et al. 2021, arXiv:2103.00020, appendix A.3.
    """
    last = (highest - lowest) * STEPS_A_DECADE
    scores: dict[int, float] = {}

    def value(step: int) -> float:
        return 10 ** (lowest + step / STEPS_A_DECADE)

    def peak(steps: list[int]) -> int:
        for step in steps:
            if 0 <= step <= last and step not in scores:
                scores[step] = score(value(step))
        return max(sorted(scores), key=scores.__getitem__)

    best, interval = peak([*range(0, last + 1, COARSE), last]), COARSE // 2
    while interval:
        best = peak([best - interval, best + interval])
        interval //= 2
    return value(best), {value(step): scores[step] for step in sorted(scores)}
