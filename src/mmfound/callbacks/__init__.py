"""What happens around a step, never in it."""

from mmfound.callbacks.best_captions import BestCaptions
from mmfound.callbacks.divergence import Divergence
from mmfound.callbacks.ema import Ema
from mmfound.callbacks.evaluations import Evaluations
from mmfound.callbacks.export_weights import ExportWeights
from mmfound.callbacks.freeze import Freeze
from mmfound.callbacks.hyperparameters import LogHyperparameters
from mmfound.callbacks.predictions import Predictions
from mmfound.callbacks.progress import Progress
from mmfound.callbacks.run_log import RunLog
from mmfound.callbacks.sample_images import SampleImages
from mmfound.callbacks.step_seed import StepSeed
from mmfound.callbacks.watchdog import Watchdog

__all__ = [
    "BestCaptions",
    "Divergence",
    "Ema",
    "Evaluations",
    "ExportWeights",
    "Freeze",
    "LogHyperparameters",
    "Predictions",
    "Progress",
    "RunLog",
    "SampleImages",
    "StepSeed",
    "Watchdog",
]
