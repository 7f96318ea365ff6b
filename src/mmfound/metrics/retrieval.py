"""Recall at K between pictures and captions.

Shape letters: N images, M captions, P pairs that belong together, Q queries, C candidates, E joint embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmfound.metrics.ranking import expected_hits

_SCORES_AT_ONCE = 1 << 22  # 16 MiB of scores


@dataclass(frozen=True)
class Recall:
    """Recall at every k in both directions, in [0, 1]."""

    image_to_text: dict[int, float]
    text_to_image: dict[int, float]


def retrieval_recall(
    image_NE: Tensor, text_ME: Tensor, image_of_text_M: Tensor, ks: Sequence[int], text_id_M: Tensor | None = None
) -> Recall:
    """Recall at k of captions by picture and of pictures by caption, without the N x M matrix in memory.

    Image to text is a hit when any of the picture's captions is among its k best; text to image when the caption's
    picture is. Equal scores are ordered at random (in expectation: `expected_hits`).

    Args:
        image_NE: unit embeddings.
        text_ME: unit embeddings; a picture may have several, or none, and then asks for nothing.
        image_of_text_M: int64 row in `image_NE` of each caption's picture.
        ks: how many of the best count.
        text_id_M: int64, equal where captions are. If given, equal captions are one caption that belongs to all its
            pictures; else, as is standard, each belongs to its own picture alone.

    Source: the protocol of COCO and Flickr30k retrieval (Karpathy & Fei-Fei 2015, arXiv:1412.2306, section 4.1).
    """
    pairs_P2 = torch.stack([image_of_text_M, torch.arange(len(text_ME), device=image_of_text_M.device)], dim=1)
    if text_id_M is not None:
        text_of_M, first = _numbered(text_id_M)
        pairs_P2 = torch.unique(torch.stack([image_of_text_M, text_of_M], dim=1), dim=0)
        text_ME = text_ME[first]
    return Recall(
        dict(zip(ks, _recall(image_NE, text_ME, pairs_P2, ks), strict=True)),
        dict(zip(ks, _recall(text_ME, image_NE, pairs_P2.flip(1), ks), strict=True)),
    )


def _numbered(id_M: Tensor) -> tuple[Tensor, Tensor]:
    """Ids as 0, 1, ..., and for each of these the position where it occurs first."""
    known, number_M = torch.unique(id_M, return_inverse=True)
    first = torch.full((len(known),), len(id_M), device=id_M.device)
    first.scatter_reduce_(0, number_M, torch.arange(len(id_M), device=id_M.device), "amin")
    return number_M, first


def _recall(query_QE: Tensor, candidate_CE: Tensor, pairs_P2: Tensor, ks: Sequence[int]) -> list[float]:
    asked, query_of_P = torch.unique(pairs_P2[:, 0], return_inverse=True)
    rows = max(1, _SCORES_AT_ONCE // len(candidate_CE))
    total_K = torch.zeros(len(ks), dtype=torch.float64, device=query_QE.device)
    with torch.autocast(query_QE.device.type, enabled=False):
        for start in range(0, len(asked), rows):
            score = query_QE[asked[start : start + rows]].float() @ candidate_CE.float().T
            here = (query_of_P >= start) & (query_of_P < start + rows)
            positive = torch.zeros_like(score, dtype=torch.bool)
            positive[query_of_P[here] - start, pairs_P2[here, 1]] = True
            total_K += expected_hits(score, positive, ks).sum(dim=0)
    return (total_K / len(asked)).tolist()
