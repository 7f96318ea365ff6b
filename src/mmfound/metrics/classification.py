"""Accuracy.

Shape letters: N samples, C classes, K values of k.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmfound.metrics.ranking import expected_hits


def topk_accuracy(logits_NC: Tensor, label_N: Tensor, ks: Sequence[int]) -> list[float]:
    """Share of samples whose label is among the k largest logits, ties broken at random, for every k; in [0, 1]."""
    positive_NC = F.one_hot(label_N, logits_NC.shape[1]).bool()
    return expected_hits(logits_NC, positive_NC, ks).mean(dim=0).tolist()


def mean_per_class(hit_N: Tensor, label_N: Tensor) -> float:
    """Mean over the classes that occur of the share of hits among their samples; in [0, 1].

    Args:
        hit_N: float, 1 where a sample is classified rightly.
        label_N: int64 classes.
    """
    _, class_N, count_C = torch.unique(label_N, return_inverse=True, return_counts=True)
    hits_C = torch.zeros(len(count_C), dtype=torch.float64, device=hit_N.device).index_add_(0, class_N, hit_N.double())
    return float((hits_C / count_C).mean())


def confusion_matrix(label_N: Tensor, predicted_N: Tensor, classes: int) -> Tensor:
    """[C, C] int64: how many samples of each class (row) are taken for each class (column).

    Args:
        label_N: int64 classes.
        predicted_N: int64 classes.
        classes: C.
    """
    return torch.bincount(label_N * classes + predicted_N, minlength=classes**2).view(classes, classes)
