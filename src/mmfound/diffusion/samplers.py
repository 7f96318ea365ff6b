"""From noise to samples: samplers are functions of a denoiser and of an explicit list of levels.

A denoiser gives x0, held to its range already, and epsilon is derived from that x0 in every step, as GLIDE does.
Numbers that depend on the levels are computed in float64; the sample keeps its dtype.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from mmfound.diffusion.estimates import Denoiser
from mmfound.diffusion.levels import Level
from mmfound.diffusion.noise import SampleNoise
from mmfound.diffusion.variances import FixedSmall, LearnedRange, Variance, posterior_mean
from mmfound.errors import ConfigError


class Sampler(ABC):
    """Follows a denoiser from the first of some levels to the last; a dataclass of its settings."""

    @abstractmethod
    def __call__(self, denoise: Denoiser, x: Tensor, levels: Sequence[Level], noise: SampleNoise) -> Tensor:
        """[B, ...] sample at levels[0] -> [B, ...] sample at levels[-1], which is x0 where that is CLEAN."""


@dataclass(frozen=True)
class Ddpm(Sampler):
    """Ancestral sampling: the posterior q(x_s | x_t, x0) with the network's x0.

    Source: Ho et al. 2020, arXiv:2006.11239, equations 6 and 7; Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.1.

    Args:
        variance: of the step; by default the stage's, and outside of a stage the learned one where the network gives
            one, otherwise FixedSmall.
    """

    variance: Variance | None = None

    def __call__(self, denoise: Denoiser, x: Tensor, levels: Sequence[Level], noise: SampleNoise) -> Tensor:
        """[B, ...] at levels[0] -> [B, ...] at levels[-1]; draws noise in every step but the one to CLEAN."""
        for level, to in pairwise(levels):
            estimate = denoise(x, level)
            if to.is_clean:
                return estimate.x0
            fraction = None if estimate.variance_fraction is None else estimate.variance_fraction.to(x.dtype)
            variance = self.variance or (FixedSmall() if fraction is None else LearnedRange())
            deviation = (variance.log_variance(level, to, fraction) / 2).exp().to(x)
            x = posterior_mean(estimate.x0, x, level, to) + deviation * noise.draw(x)
        return x


@dataclass(frozen=True)
class Ddim(Sampler):
    """Denoising diffusion implicit models.

    Source: Song et al. 2021, arXiv:2010.02502, equations 12 and 16.

    Args:
        eta: 0 takes no noise but the first, 1 the noise of `Ddpm` with FixedSmall.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"Ddim: eta is {self.eta}; it goes from 0, no noise, to 1, that of ancestral sampling.")

    def __call__(self, denoise: Denoiser, x: Tensor, levels: Sequence[Level], noise: SampleNoise) -> Tensor:
        """[B, ...] at levels[0] -> [B, ...] at levels[-1]; draws noise if eta is above 0, none in the step to CLEAN."""
        for level, to in pairwise(levels):
            x0 = denoise(x, level).x0
            if to.is_clean:
                return x0
            fresh = self.eta**2 * _new_share(level, to) if self.eta else 0.0
            x = _moved(x, x0, level, to, kept=math.sqrt(1 - fresh))
            if fresh:
                x = x + float(to.sigma) * math.sqrt(fresh) * noise.draw(x)
        return x


@dataclass(frozen=True)
class Euler(Sampler):
    """Euler's method for d(x / alpha) / ds = epsilon, s = sigma / alpha: the same numbers as `Ddim` without noise.

    Source: Karras et al. 2022, arXiv:2206.00364, equation 1 with s(t) = 1 and sigma(t) = t.
    """

    def __call__(self, denoise: Denoiser, x: Tensor, levels: Sequence[Level], noise: SampleNoise) -> Tensor:
        """[B, ...] at levels[0] -> [B, ...] at levels[-1]; draws no noise."""
        for level, to in pairwise(levels):
            x = _moved(x, denoise(x, level).x0, level, to)
        return x


@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method for the same equation; asks the denoiser twice in every step but the one to CLEAN.

    Source: Karras et al. 2022, arXiv:2206.00364, algorithm 1 with s(t) = 1 and sigma(t) = t.

    Args:
        smallest_ratio: steps to s below this share of the s they start at are Euler's, because the method weighs the
            difference of its two estimates by (s / s_next - 1) / 2: hundreds in the first step of a cosine schedule.
            With 0 it is the published algorithm everywhere but from pure noise, where s is infinite.
    """

    smallest_ratio: float = 0.1

    def __call__(self, denoise: Denoiser, x: Tensor, levels: Sequence[Level], noise: SampleNoise) -> Tensor:
        """[B, ...] at levels[0] -> [B, ...] at levels[-1]; draws no noise."""
        for level, to in pairwise(levels):
            x0 = denoise(x, level).x0
            x = _moved(x, x0, level, to)
            ratio = math.exp(-_half_log_snr_gained(level, to))
            if ratio > self.smallest_ratio and not to.is_clean:
                x = x + float(to.alpha) * (1 / ratio - 1) / 2 * (denoise(x, to).x0 - x0)
        return x


@dataclass(frozen=True)
class DpmSolver2M(Sampler):
    """DPM-Solver++(2M): second order with one evaluation in a step; the first and the one to CLEAN are of first order.

    Source: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
    """

    def __call__(self, denoise: Denoiser, x: Tensor, levels: Sequence[Level], noise: SampleNoise) -> Tensor:
        """[B, ...] at levels[0] -> [B, ...] at levels[-1]; draws no noise."""
        last_x0, last_h = None, 0.0
        for level, to in pairwise(levels):
            x0 = denoise(x, level).x0
            if to.is_clean:
                return x0
            h = _half_log_snr_gained(level, to)
            ahead = x0 if last_x0 is None else x0 + h / (2 * last_h) * (x0 - last_x0)
            x = float(to.sigma / level.sigma) * x - float(to.alpha) * math.expm1(-h) * ahead
            last_x0, last_h = x0, h
        return x


def invert(denoise: Denoiser, x0: Tensor, levels: Sequence[Level], *, refinements: int = 0) -> Tensor:
    """The noise that `Ddim` without eta leads from to a given sample: DDIM backwards.

    Args:
        denoise: asked at every level but CLEAN. Guidance and thresholds make what it gives harder to invert.
        x0: [B, ...] clean samples.
        levels: as in sampling, falling to CLEAN or to the level that x0 is at.
        refinements: more evaluations in each step, which solve for the very sample that the step forward starts at
            (a fixed-point iteration); 0 takes epsilon where the step begins.

    Returns:
        [B, ...] sample at levels[0].
    Source: Song et al. 2021, arXiv:2010.02502, section 4.3.
    """
    x = x0
    for level, to in pairwise(reversed(levels)):
        shrunk = float(to.alpha / level.alpha) * x
        growth = float(to.sigma - to.alpha / level.alpha * level.sigma)
        asked, at = (shrunk, to) if level.is_clean else (x, level)
        for _ in range(1 + refinements):
            epsilon = (asked - float(at.alpha) * denoise(asked, at).x0) / float(at.sigma)
            asked, at = shrunk + growth * epsilon, to
        x = asked
    return x


def _moved(x: Tensor, x0: Tensor, level: Level, to: Level, kept: float = 1.0) -> Tensor:
    """alpha_s x0 + kept sigma_s epsilon, where epsilon is what x holds beside x0."""
    if to.is_clean:
        return x0
    on_x = kept * float(to.sigma / level.sigma)
    return on_x * x + (float(to.alpha) - on_x * float(level.alpha)) * x0


def _new_share(level: Level, to: Level) -> float:
    """1 - SNR_t / SNR_s: the variance of the posterior q(x_s | x_t, x0) is that share of sigma_s^2."""
    return -math.expm1(-2 * _half_log_snr_gained(level, to))


def _half_log_snr_gained(level: Level, to: Level) -> float:
    """By how much log(alpha / sigma) rises in a step."""
    return float(to.log_snr - level.log_snr) / 2
