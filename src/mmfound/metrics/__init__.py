"""Metrics as pure functions, with no knowledge of tasks."""

from mmfound.metrics.classification import confusion_matrix, mean_per_class, topk_accuracy
from mmfound.metrics.linear import Linear, Ridge, logistic
from mmfound.metrics.neighbours import neighbour_votes
from mmfound.metrics.ranking import expected_hits
from mmfound.metrics.retrieval import Recall, retrieval_recall
from mmfound.metrics.sweep import log_sweep

__all__ = [
    "Linear",
    "Recall",
    "Ridge",
    "confusion_matrix",
    "expected_hits",
    "log_sweep",
    "logistic",
    "mean_per_class",
    "neighbour_votes",
    "retrieval_recall",
    "topk_accuracy",
]
