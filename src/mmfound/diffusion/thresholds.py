"""Thresholds hold an estimate of x0 to the range of the data."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmfound.diffusion.estimates import Denoiser, Estimate
from mmfound.diffusion.levels import Level
from mmfound.errors import ConfigError


class Threshold(ABC):
    """Holds an estimate of x0 to the range of the data."""

    @abstractmethod
    def __call__(self, denoise: Denoiser) -> Denoiser:
        """The same denoiser with its x0 held."""


@dataclass(frozen=True)
class Static(Threshold):
    """Clamp to fixed bounds.

    Args:
        bounds: smallest and largest value; those of pixels by default.
    """

    bounds: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        if self.bounds[0] >= self.bounds[1]:
            raise ConfigError(f"Static: bounds are {list(self.bounds)}; the first must be the smaller one.")

    def __call__(self, denoise: Denoiser) -> Denoiser:
        """The same denoiser with its x0 clamped."""

        def held(x_t: Tensor, level: Level) -> Estimate:
            estimate = denoise(x_t, level)
            return replace(estimate, x0=estimate.x0.clamp(*self.bounds))

        return held


@dataclass(frozen=True)
class Dynamic(Threshold):
    """Clamp each sample to the given percentile of its absolute values and divide by it, where that is above 1.

    Source: Saharia et al. 2022, arXiv:2205.11487, section 2.3.

    Args:
        percentile: in percent.
    """

    percentile: float = 99.5

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise ConfigError(f"Dynamic: percentile is {self.percentile}; it is in percent, above 0 and up to 100.")

    def __call__(self, denoise: Denoiser) -> Denoiser:
        """The same denoiser with its x0 in [-1, 1]."""

        def held(x_t: Tensor, level: Level) -> Estimate:
            estimate = denoise(x_t, level)
            x0 = estimate.x0
            rows = [torch.quantile(row.abs().float(), self.percentile / 100) for row in x0.flatten(1)]
            limit = torch.stack(rows).to(x0.dtype).clamp(min=1).reshape(-1, *[1] * (x0.dim() - 1))
            return replace(estimate, x0=x0.clamp(-limit, limit) / limit)

        return held
