"""Metrics as pure functions, with no knowledge of tasks."""

from mmfound.metrics.classification import confusion_matrix, mean_per_class, topk_accuracy
from mmfound.metrics.intervals import wilson_interval
from mmfound.metrics.kid import Distance, kernel_distance
from mmfound.metrics.linear import Linear, Ridge, logistic
from mmfound.metrics.neighbours import nearest_samples, neighbour_votes
from mmfound.metrics.ranking import expected_hits
from mmfound.metrics.retrieval import Recall, retrieval_recall
from mmfound.metrics.sweep import log_sweep

__all__ = [
    "Distance",
    "Linear",
    "Recall",
    "Ridge",
    "confusion_matrix",
    "expected_hits",
    "kernel_distance",
    "log_sweep",
    "logistic",
    "mean_per_class",
    "nearest_samples",
    "neighbour_votes",
    "retrieval_recall",
    "topk_accuracy",
    "wilson_interval",
]
