"""What every diffusion system shares."""

from mmfound.diffusion.discrete import Betas, CosineBetas, DiscreteSchedule, LinearBetas, ScaledLinearBetas
from mmfound.diffusion.edm import EdmSchedule
from mmfound.diffusion.levels import CLEAN, Level, add_noise, spread
from mmfound.diffusion.loss_weights import EdmWeight, LossWeight, MinSnr, SoftMinSnr, Uniform
from mmfound.diffusion.objective import check, denoising_losses, stratified, variational_losses
from mmfound.diffusion.predictions import X0, Edm, Epsilon, Prediction, V
from mmfound.diffusion.rescheduled import Shifted, ZeroTerminal
from mmfound.diffusion.schedules import CosineSchedule, LinearSchedule, ScaledLinear, Schedule
from mmfound.diffusion.variances import FixedLarge, FixedSmall, LearnedRange, Variance, posterior_mean

__all__ = [
    "Betas",
    "CLEAN",
    "CosineBetas",
    "CosineSchedule",
    "DiscreteSchedule",
    "Edm",
    "EdmSchedule",
    "EdmWeight",
    "Epsilon",
    "FixedLarge",
    "FixedSmall",
    "LearnedRange",
    "Level",
    "LinearBetas",
    "LinearSchedule",
    "LossWeight",
    "MinSnr",
    "Prediction",
    "ScaledLinear",
    "ScaledLinearBetas",
    "Schedule",
    "Shifted",
    "SoftMinSnr",
    "Uniform",
    "V",
    "Variance",
    "X0",
    "ZeroTerminal",
    "add_noise",
    "check",
    "denoising_losses",
    "posterior_mean",
    "spread",
    "stratified",
    "variational_losses",
]
