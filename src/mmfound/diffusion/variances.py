"""The variance of the ancestral step from a level to a less noisy one.

Source: Ho et al. 2020, arXiv:2006.11239, section 3.2; Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.1.
"""

from abc import ABC, abstractmethod

from torch import Tensor

from mmfound.diffusion.levels import Level


class Variance(ABC):
    """Chooses between the bounds."""

    @abstractmethod
    def log_variance(self, level: Level, to: Level, fraction: Tensor | None) -> Tensor:
        """[] or [B, ...] log of the variance; `fraction` is the network's, in the units of `Estimate`."""


class FixedSmall(Variance):
    """That of the posterior q(x_s | x_t, x0)."""


class FixedLarge(Variance):
    """beta, 1 - alpha_t^2 / alpha_s^2."""


class LearnedRange(Variance):
    """Between the two in the log domain, where the network says; it has twice the output channels then."""
