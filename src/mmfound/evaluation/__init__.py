"""Evaluators that a recipe names: a source, a metric, and the ability they need."""

from mmfound.evaluation.accuracy import Accuracy
from mmfound.evaluation.classifiers import Classifier, LogisticRegression, Neighbours, RidgeRegression
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.few_shot import FewShot
from mmfound.evaluation.linear_probe import Probe
from mmfound.evaluation.retrieval import Retrieval
from mmfound.evaluation.zero_shot import ZeroShot

__all__ = [
    "Accuracy",
    "Classifier",
    "Evaluator",
    "FewShot",
    "LogisticRegression",
    "Neighbours",
    "Probe",
    "Retrieval",
    "RidgeRegression",
    "ZeroShot",
]
