"""The variance of the ancestral step from a level to a less noisy one, and the mean it is around.

For any pair of levels, so that steps over a few of the trained times need no tables of their own: with
r = SNR_t / SNR_s, beta = 1 - alpha_t^2 / alpha_s^2 = sigma_t^2 (1 - r), and q(x_s | x_t, x0) has the variance
sigma_s^2 (1 - r) and the mean alpha_s (1 - r) x0 + alpha_t sigma_s^2 / (alpha_s sigma_t^2) x_t.

Source: Ho et al. 2020, arXiv:2006.11239, section 3.2; Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.1.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from mmfound.diffusion.levels import Level, spread


class Variance(ABC):
    """Chooses between the bounds, beta and the posterior's variance.

    Given x0 there is nothing left to draw in the step to the clean end: the posterior's variance is 0 there, and its
    logarithm is of no use. As in the released code of Nichol & Dhariwal the smaller bound is that of the step before
    instead, where the caller says which that is, and otherwise the larger bound. Samplers draw no noise in that step;
    the likelihood of the first step is what uses it.
    """

    @abstractmethod
    def log_variance(self, level: Level, to: Level, fraction: Tensor | None, before: Level | None = None) -> Tensor:
        """Log of the variance of a step.

        Args:
            level: [] or [B], where the step starts.
            to: [] or [B], less noisy; clean (infinite log-SNR) in some or all of its samples.
            fraction: [B, ...] the network's, in the units of `Estimate`; None where it has none.
            before: [] or [B], noisier than `level`: where the step that led to `level` started.
        Returns:
            [] or [B] float64, or [B, ...] in the dtype of a fraction that is used.
        """


class FixedSmall(Variance):
    """That of the posterior q(x_s | x_t, x0)."""

    def log_variance(self, level: Level, to: Level, fraction: Tensor | None, before: Level | None = None) -> Tensor:
        return _log_posterior(level, to, before)


class FixedLarge(Variance):
    """beta, 1 - alpha_t^2 / alpha_s^2; in the step to the clean end the smaller bound, as in the released code."""

    def log_variance(self, level: Level, to: Level, fraction: Tensor | None, before: Level | None = None) -> Tensor:
        return torch.where(to.log_snr.isinf(), _log_posterior(level, to, before), _log_beta(level, to))


class LearnedRange(Variance):
    """Between the two in the log domain, where the network says; it has twice the output channels then."""

    def log_variance(self, level: Level, to: Level, fraction: Tensor | None, before: Level | None = None) -> Tensor:
        assert fraction is not None, "LearnedRange needs the fraction that the network gives"
        small = spread(_log_posterior(level, to, before), fraction)
        large = spread(_log_beta(level, to), fraction)
        return small + fraction * (large - small)


def posterior_mean(x0: Tensor, x_t: Tensor, level: Level, to: Level) -> Tensor:
    """[B, ...] mean of q(x_s | x_t, x0), x_t at `level` and x_s at `to`; x0 itself where `to` is clean."""
    onto_x_t = level.alpha * to.sigma**2 / (to.alpha * level.sigma**2)
    return spread(mean_factor(level, to), x0) * x0 + spread(onto_x_t, x_t) * x_t


def mean_factor(level: Level, to: Level) -> Tensor:
    """[] or [B] float64 factor on x0 in the mean of q(x_s | x_t, x0)."""
    return -to.alpha * torch.expm1(level.log_snr - to.log_snr)


def _log_beta(level: Level, to: Level) -> Tensor:
    return F.logsigmoid(-level.log_snr) + _log_share(level, to)


def _log_posterior(level: Level, to: Level, before: Level | None) -> Tensor:
    clipped = _log_beta(level, to) if before is None else F.logsigmoid(-level.log_snr) + _log_share(before, level)
    return torch.where(to.log_snr.isinf(), clipped, F.logsigmoid(-to.log_snr) + _log_share(level, to))


def _log_share(level: Level, to: Level) -> Tensor:
    """log(1 - SNR_t / SNR_s), exact where the two are close."""
    return torch.log(-torch.expm1(level.log_snr - to.log_snr))
