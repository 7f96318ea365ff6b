"""Denoisers whose answers are known, and levels to follow them along."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmfound.diffusion.estimates import Estimate
from mmfound.diffusion.levels import CLEAN, Level, spread
from mmfound.diffusion.noise import SampleNoise


def level_of(s: float) -> Level:
    """The level at which s = sigma / alpha."""
    log_snr = torch.tensor(-2 * math.log(s), dtype=torch.float64)
    return Level(log_snr, log_snr)


def rho_levels(steps: int, *, clean: bool = True, high: float = 80.0, low: float = 0.002) -> list[Level]:
    """Karras et al. 2022, equation 5 with rho 7, and CLEAN."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    s = (high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    return [*(level_of(float(value)) for value in s), *([CLEAN] if clean else [])]


@dataclass
class Gaussian:
    """Of data that is normal with a mean and deviation in every element: exact in closed form."""

    mean: float = 0.3
    deviation: float = 0.5

    def __call__(self, x_t: Tensor, level: Level) -> Estimate:
        alpha, sigma = spread(level.alpha, x_t), spread(level.sigma, x_t)
        v = self.deviation**2
        return Estimate((v * alpha * x_t + sigma**2 * self.mean) / (v * alpha**2 + sigma**2))

    def posterior_variance(self, level: Level) -> float:
        """Of x0 given x_t."""
        v, s2 = self.deviation**2, math.exp(-float(level.log_snr))
        return v * s2 / (v + s2)

    def exact(self, x: Tensor, level: Level, to: Level) -> Tensor:
        """Where the probability flow takes x from one level to another."""
        s, s_to = (math.exp(-float(at.log_snr) / 2) for at in (level, to))
        v = self.deviation**2
        far = (x / float(level.alpha) - self.mean) * math.sqrt((v + s_to**2) / (v + s**2))
        return float(to.alpha) * (self.mean + far)


class Wavy:
    """A fixed smooth function that mixes the elements of each sample; asks for [B, 12] and counts how often.

    Args:
        fraction: whether it gives a variance fraction.
    """

    def __init__(self, fraction: bool = False) -> None:
        generator = torch.Generator().manual_seed(7)
        self.weight = torch.randn(12, 12, generator=generator, dtype=torch.float64) / 4
        self.fraction = fraction
        self.calls: list[Level] = []

    def __call__(self, x_t: Tensor, level: Level) -> Estimate:
        self.calls.append(level)
        inner = x_t @ self.weight.to(x_t) + 0.3 * torch.tanh(spread(level.log_snr, x_t) / 4)
        return Estimate(torch.tanh(inner), torch.sigmoid(inner) if self.fraction else None)


class Given:
    """In place of `SampleNoise`: hands out the given draws in turn."""

    def __init__(self, draws: Sequence[Tensor]) -> None:
        self.draws = list(draws)

    def draw(self, like: Tensor) -> Tensor:
        return self.draws.pop(0).to(like)


def silent() -> SampleNoise:
    """For samplers that must not draw: there is no stream."""
    return SampleNoise(0, [])
