"""Nearest neighbours and their votes.

Shape letters: Q queries, N samples with labels, D features, C classes, K neighbours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_SIMILARITIES_AT_ONCE = 1 << 24


def neighbour_votes(
    query_QD: Tensor, feature_ND: Tensor, label_N: Tensor, classes: int, *, k: int, temperature: float | None = None
) -> Tensor:
    """Share of the votes of the k samples of largest cosine similarity, without the Q x N matrix in memory.

    Args:
        query_QD: what to classify.
        feature_ND: of the samples that vote.
        label_N: their classes, int64.
        classes: C.
        k: how many vote; all samples where there are fewer.
        temperature: a vote counts exp(similarity / temperature), as in DINO (Caron et al. 2021, arXiv:2104.14294,
            appendix F.1: k = 20, temperature 0.07); equally by default.

    Returns:
        [Q, C] in [0, 1], each row of sum 1.
    """
    query_QD, feature_ND = F.normalize(query_QD, dim=1), F.normalize(feature_ND, dim=1)
    k, rows = min(k, len(feature_ND)), max(1, _SIMILARITIES_AT_ONCE // len(feature_ND))
    parts = []
    with torch.autocast(query_QD.device.type, enabled=False):
        for query in query_QD.split(rows):
            near_K, nearest = (query @ feature_ND.T).topk(k, dim=1)
            weight = torch.ones_like(near_K) if temperature is None else (near_K / temperature).softmax(dim=1)
            votes = torch.zeros(len(query), classes, dtype=query.dtype, device=query.device)
            parts.append(votes.scatter_add_(1, label_N[nearest], weight))
    votes_QC = torch.cat(parts)
    return votes_QC / votes_QC.sum(dim=1, keepdim=True)


def nearest_samples(query_QD: Tensor, feature_ND: Tensor) -> tuple[Tensor, Tensor]:
    """The sample of smallest Euclidean distance for every query, without the Q x N matrix in memory.

    Returns:
        [Q] distances in the dtype of the features, and [Q] int64 rows of `feature_ND`.
    """
    rows = max(1, _SIMILARITIES_AT_ONCE // len(feature_ND))
    square_N = feature_ND.square().sum(dim=1)
    with torch.autocast(query_QD.device.type, enabled=False):
        row_Q = torch.cat([(square_N - 2 * query @ feature_ND.T).argmin(dim=1) for query in query_QD.split(rows)])
    return (query_QD - feature_ND[row_Q]).norm(dim=1), row_Q  # by difference: the expanded square loses small ones
