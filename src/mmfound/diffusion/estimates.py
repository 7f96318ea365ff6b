"""The contract between networks and samplers: what a denoiser returns."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mmfound.diffusion.levels import Level


@dataclass(frozen=True)
class Estimate:
    """What a denoiser makes of a noised sample.

    Attributes:
        x0: [B, ...] of the clean sample. Guidance and thresholds change this alone.
        variance_fraction: [B, ...] or None; v of a learned variance, which lies between its bounds in the log domain:
            0 is the smaller bound, 1 the larger one (`variances.LearnedRange`).
    """

    x0: Tensor
    variance_fraction: Tensor | None = None


class Denoiser(Protocol):
    """Estimates the clean sample. Networks are made into one by `Stage.denoiser`, and wrappers take and return one."""

    def __call__(self, x_t: Tensor, level: Level) -> Estimate:
        """[B, ...] variance-preserving noised samples at a level -> an estimate of x0, same shape."""
        ...
