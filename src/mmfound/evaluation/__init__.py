"""Evaluators that a recipe names: a source, a metric, and the ability they need."""

from mmfound.evaluation.accuracy import Accuracy
from mmfound.evaluation.attribute_score import AttributeScore
from mmfound.evaluation.attributes import Judge
from mmfound.evaluation.chained import Chained
from mmfound.evaluation.class_maps import ClassMap, NamedClasses, Numbered, ObjectNetClasses, SameNames
from mmfound.evaluation.classifiers import Classifier, LogisticRegression, Neighbours, RidgeRegression
from mmfound.evaluation.common_corruptions import CommonCorruptions
from mmfound.evaluation.earlier import EffectiveRobustness, ReferenceModel
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.few_shot import FewShot
from mmfound.evaluation.inpaint_score import InpaintScore
from mmfound.evaluation.linear_probe import Probe
from mmfound.evaluation.noised import NoisedZeroShot
from mmfound.evaluation.retrieval import Retrieval
from mmfound.evaluation.robustness import Robustness
from mmfound.evaluation.sample_distances import SampleDistances
from mmfound.evaluation.shifts import Shift
from mmfound.evaluation.upscaling import Upscaling
from mmfound.evaluation.zero_shot import ZeroShot

__all__ = [
    "Accuracy",
    "AttributeScore",
    "Chained",
    "ClassMap",
    "Classifier",
    "CommonCorruptions",
    "EffectiveRobustness",
    "Evaluator",
    "FewShot",
    "InpaintScore",
    "Judge",
    "LogisticRegression",
    "NamedClasses",
    "Neighbours",
    "NoisedZeroShot",
    "Numbered",
    "ObjectNetClasses",
    "Probe",
    "ReferenceModel",
    "Retrieval",
    "RidgeRegression",
    "Robustness",
    "SameNames",
    "SampleDistances",
    "Shift",
    "Upscaling",
    "ZeroShot",
]
