"""How well a share is known."""

from statistics import NormalDist


def wilson_interval(hits: float, total: int, level: float = 0.95) -> tuple[float, float]:
    """Bounds of a share of independent trials, sensible near 0 and 1 too.

    Args:
        hits: how many succeeded.
        total: of how many, at least 1.
        level: how often the interval holds the true share.

    Source: Wilson 1927, Journal of the American Statistical Association 22.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, shrink = hits / total, 1 + z * z / total
    middle = (share + z * z / (2 * total)) / shrink
    half = z / shrink * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)
