"""Metrics as pure functions, with no knowledge of tasks."""

from mmfound.metrics.classification import mean_per_class, topk_accuracy
from mmfound.metrics.ranking import expected_hits
from mmfound.metrics.retrieval import Recall, retrieval_recall

__all__ = ["Recall", "expected_hits", "mean_per_class", "retrieval_recall", "topk_accuracy"]
