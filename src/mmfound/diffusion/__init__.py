"""What every diffusion system shares."""

from mmfound.diffusion.clamping import clamped
from mmfound.diffusion.clip_guidance import ClipGuidance
from mmfound.diffusion.discrete import Betas, CosineBetas, DiscreteSchedule, LinearBetas, ScaledLinearBetas
from mmfound.diffusion.drawing import draw
from mmfound.diffusion.edm import EdmSchedule
from mmfound.diffusion.guidance import ClassifierFree, Guidance, Steering, clip_guided
from mmfound.diffusion.levels import CLEAN, Level, add_noise, spread
from mmfound.diffusion.loss_weights import CleanUniform, EdmWeight, LossWeight, MinSnr, SoftMinSnr, Uniform
from mmfound.diffusion.noise import SampleNoise
from mmfound.diffusion.objective import check, denoising_losses, stratified, variational_losses
from mmfound.diffusion.predictions import X0, Edm, Epsilon, Prediction, V
from mmfound.diffusion.rescheduled import Shifted, ZeroTerminal
from mmfound.diffusion.samplers import Ddim, Ddpm, DpmSolver2M, Euler, Heun, Sampler, invert
from mmfound.diffusion.sampling import Sampling
from mmfound.diffusion.schedules import CosineSchedule, LinearSchedule, ScaledLinear, Schedule
from mmfound.diffusion.spaces import PixelSpace, Space
from mmfound.diffusion.stage import Stage
from mmfound.diffusion.thresholds import Dynamic, Static, Threshold
from mmfound.diffusion.variances import FixedLarge, FixedSmall, LearnedRange, Variance, posterior_mean

__all__ = [
    "Betas",
    "CLEAN",
    "ClassifierFree",
    "ClipGuidance",
    "CosineBetas",
    "CosineSchedule",
    "Ddim",
    "Ddpm",
    "DiscreteSchedule",
    "DpmSolver2M",
    "Dynamic",
    "Edm",
    "EdmSchedule",
    "CleanUniform",
    "EdmWeight",
    "Epsilon",
    "Euler",
    "FixedLarge",
    "FixedSmall",
    "Guidance",
    "Heun",
    "LearnedRange",
    "Level",
    "LinearBetas",
    "LinearSchedule",
    "LossWeight",
    "MinSnr",
    "PixelSpace",
    "Prediction",
    "SampleNoise",
    "Sampler",
    "Sampling",
    "ScaledLinear",
    "ScaledLinearBetas",
    "Schedule",
    "Shifted",
    "SoftMinSnr",
    "Space",
    "Stage",
    "Static",
    "Steering",
    "Threshold",
    "Uniform",
    "V",
    "Variance",
    "X0",
    "ZeroTerminal",
    "add_noise",
    "check",
    "clamped",
    "clip_guided",
    "denoising_losses",
    "draw",
    "invert",
    "posterior_mean",
    "spread",
    "stratified",
    "variational_losses",
]
