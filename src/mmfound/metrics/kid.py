"""Kernel inception distance: how far apart two sets of pictures lie, by their features.

Shape letters: N, M samples, D features, J groups.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmfound.errors import DataError


@dataclass(frozen=True)
class Distance:
    """An unbiased estimate, which can be below 0, and its standard error."""

    value: float
    standard_error: float


def kernel_distance(feature_ND: Tensor, other_MD: Tensor, *, groups: int = 10) -> Distance:
    """Squared maximum mean discrepancy under the kernel (x y / D + 1)^3, on all samples at once.

    The standard error is the jackknife's over groups of samples that are left out of both sets together.

    Args:
        feature_ND: of one set, in any order that is no order.
        other_MD: of the other.
        groups: J; fewer where there are few samples.

    Raises:
        DataError: when a set has fewer than four samples.

    Source: Binkowski et al. 2018, arXiv:1801.01401, section 3; the estimator is Gretton et al. 2012 (JMLR 13), lemma 6.
    """
    if min(len(feature_ND), len(other_MD)) < 4 or feature_ND.shape[1:] != other_MD.shape[1:]:
        raise DataError(
            f"a kernel distance needs two sets of four or more samples with equal features, not "
            f"{list(feature_ND.shape)} and {list(other_MD.shape)}."
        )
    groups = min(groups, len(feature_ND) // 2, len(other_MD) // 2)
    x, y = feature_ND.double(), other_MD.double()
    group_N, group_M = torch.arange(len(x)) % groups, torch.arange(len(y)) % groups
    own_JJ = _group_sums(x, x, group_N, group_N, groups, diagonal=False)
    other_JJ = _group_sums(y, y, group_M, group_M, groups, diagonal=False)
    cross_JJ = _group_sums(x, y, group_N, group_M, groups, diagonal=True)
    count_N, count_M = group_N.bincount(minlength=groups), group_M.bincount(minlength=groups)
    whole = torch.ones(groups, dtype=torch.float64)

    def estimate(kept_J: Tensor) -> float:
        n, m = float(kept_J @ count_N.double()), float(kept_J @ count_M.double())
        own, other, cross = (float(kept_J @ sums @ kept_J) for sums in (own_JJ, other_JJ, cross_JJ))
        return own / (n * (n - 1)) + other / (m * (m - 1)) - 2 * cross / (n * m)

    parts = torch.tensor([estimate(kept) for kept in whole - torch.eye(groups, dtype=torch.float64)])
    error = ((groups - 1) / groups * (parts - parts.mean()).square().sum()).sqrt()
    return Distance(estimate(whole), float(error))


def _group_sums(x: Tensor, y: Tensor, group_x: Tensor, group_y: Tensor, groups: int, *, diagonal: bool) -> Tensor:
    """[J, J] sums of the kernel between groups, with or without each sample's with itself."""
    kernel = (x @ y.T / x.shape[1] + 1) ** 3
    if not diagonal:
        kernel.fill_diagonal_(0)
    one_x, one_y = (torch.nn.functional.one_hot(group, groups).double() for group in (group_x, group_y))
    return (one_x.T.to(kernel.device) @ kernel @ one_y.to(kernel.device)).cpu()
