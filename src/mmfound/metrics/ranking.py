"""Is the right one among the best K?

Shape letters: Q queries, C candidates, K values of k.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def expected_hits(score_QC: Tensor, positive_QC: Tensor, ks: Sequence[int]) -> Tensor:
    """Chance that a positive is among the k best-scored candidates, where ties are broken at random.

    Without ties it is 0 or 1. With them it is what random tie-breaking gives on average, so that a collapsed model,
    which scores all candidates alike, gets chance level, where breaking ties by index can give it everything. A score
    that is NaN counts as the lowest.

    Args:
        score_QC: higher is better.
        positive_QC: bool, True where a candidate is right; at least one a row.
        ks: sizes of the best part.

    Returns:
        [Q, K] float64 in [0, 1].
    """
    score_QC = score_QC.masked_fill(score_QC.isnan(), -torch.inf)
    best_Q1 = score_QC.masked_fill(~positive_QC, -torch.inf).amax(dim=1, keepdim=True)
    level_QC = score_QC == best_Q1
    above_Q = (~positive_QC & (score_QC > best_Q1)).sum(dim=1)
    wrong_Q = (~positive_QC & level_QC).sum(dim=1)
    right_Q = (positive_QC & level_QC).sum(dim=1)
    return torch.stack([1 - _all_wrong(k - above_Q, wrong_Q, right_Q) for k in ks], dim=1)


def _all_wrong(places_Q: Tensor, wrong_Q: Tensor, right_Q: Tensor) -> Tensor:
    """Chance that a draw of `places` without replacement from `wrong + right` has none of the right ones."""
    places, wrong, right = (count.clamp(min=0).double() for count in (places_Q, wrong_Q, right_Q))
    fits = places <= wrong
    places = torch.where(fits, places, 0)
    log_chance = _log_choose(wrong, places) - _log_choose(wrong + right, places)
    return torch.where(fits, log_chance.exp(), 0.0)


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    return torch.lgamma(n + 1) - torch.lgamma(n - k + 1) - torch.lgamma(k + 1)
