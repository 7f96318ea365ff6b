"""Evaluators that a recipe names: a source, a metric, and the ability they need."""

from mmfound.evaluation.accuracy import Accuracy
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.retrieval import Retrieval
from mmfound.evaluation.zero_shot import ZeroShot

__all__ = ["Accuracy", "Evaluator", "Retrieval", "ZeroShot"]
