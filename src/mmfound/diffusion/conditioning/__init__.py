"""From a batch to what a denoiser is told."""

from mmfound.diffusion.conditioning.condition import Condition, join, stack
from mmfound.diffusion.conditioning.conditioner import Conditioner

__all__ = ["Condition", "Conditioner", "join", "stack"]
