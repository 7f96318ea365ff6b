"""What every diffusion system shares."""

from mmfound.diffusion.discrete import Betas, CosineBetas, DiscreteSchedule, LinearBetas, ScaledLinearBetas
from mmfound.diffusion.levels import CLEAN, Level, add_noise, spread
from mmfound.diffusion.predictions import X0, Edm, Epsilon, Prediction, V
from mmfound.diffusion.schedules import CosineSchedule, EdmSchedule, LinearSchedule, ScaledLinear, Schedule, Shifted
from mmfound.diffusion.variances import FixedLarge, FixedSmall, LearnedRange, Variance, posterior_mean

__all__ = [
    "CLEAN",
    "Betas",
    "CosineBetas",
    "CosineSchedule",
    "DiscreteSchedule",
    "Edm",
    "EdmSchedule",
    "Epsilon",
    "FixedLarge",
    "FixedSmall",
    "LearnedRange",
    "Level",
    "LinearBetas",
    "LinearSchedule",
    "Prediction",
    "ScaledLinear",
    "ScaledLinearBetas",
    "Schedule",
    "Shifted",
    "V",
    "Variance",
    "X0",
    "add_noise",
    "posterior_mean",
    "spread",
]
