"""From a batch to what a denoiser is told."""

from mmfound.diffusion.conditioning.class_labels import ClassLabels
from mmfound.diffusion.conditioning.condition import Condition, join, stack
from mmfound.diffusion.conditioning.conditioner import Conditioner
from mmfound.diffusion.conditioning.degradations import GaussianBlur, NoiseAugmentation
from mmfound.diffusion.conditioning.frozen_text import FrozenText
from mmfound.diffusion.conditioning.inpainting import Inpainting
from mmfound.diffusion.conditioning.low_resolution import LowResolution
from mmfound.diffusion.conditioning.masks import FreeForm, Masks, Rectangles
from mmfound.diffusion.conditioning.pooled import Pooled
from mmfound.diffusion.conditioning.trained_text import TrainedText

__all__ = [
    "ClassLabels",
    "Condition",
    "Conditioner",
    "FreeForm",
    "FrozenText",
    "GaussianBlur",
    "Inpainting",
    "LowResolution",
    "Masks",
    "NoiseAugmentation",
    "Pooled",
    "Rectangles",
    "TrainedText",
    "join",
    "stack",
]
