"""What a network predicts, and how that becomes an estimate of the clean sample.

Source: Salimans & Ho 2022, arXiv:2202.00512, section 4 and appendix D; Karras et al. 2022, arXiv:2206.00364, section 5.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mmfound.diffusion.levels import Level, spread
from mmfound.errors import ConfigError


class Prediction(ABC):
    """A linear change of variables: x0 = skip x_t + out output, for the network's input `scale` x_t.

    The factors are [] or [B] float64 functions of the level.
    """

    @abstractmethod
    def skip(self, level: Level) -> Tensor:
        """Factor on x_t."""

    @abstractmethod
    def out(self, level: Level) -> Tensor:
        """Factor on the network's output; its square turns errors of the output into errors of x0."""

    def scale(self, level: Level) -> Tensor:
        """Factor on x_t before the network sees it."""
        return torch.ones_like(level.log_snr)

    def to_x0(self, output: Tensor, x_t: Tensor, level: Level) -> Tensor:
        """[B, ...] network output and noised sample -> [B, ...] estimate of x0, not clipped."""
        return spread(self.skip(level), x_t) * x_t + spread(self.out(level), x_t) * output

    def from_x0(self, x0: Tensor, x_t: Tensor, level: Level) -> Tensor:
        """[B, ...] the network output that would mean this x0; ill-conditioned where `out` is near 0."""
        return (x0 - spread(self.skip(level), x_t) * x_t) / spread(self.out(level), x_t)

    def target(self, x0: Tensor, noise: Tensor, level: Level) -> Tensor:
        """[B, ...] what the network is trained towards: `from_x0` of the true x0, well-conditioned at every level."""
        out = self.out(level)
        on_x0 = (1 - self.skip(level) * level.alpha) / out
        on_noise = -self.skip(level) * level.sigma / out
        return spread(on_x0, x0) * x0 + spread(on_noise, noise) * noise


class Epsilon(Prediction):
    """The noise (Ho et al. 2020, arXiv:2006.11239, equation 12)."""

    def skip(self, level: Level) -> Tensor:
        return 1 / level.alpha

    def out(self, level: Level) -> Tensor:
        return -level.sigma / level.alpha


class X0(Prediction):
    """The clean sample."""

    def skip(self, level: Level) -> Tensor:
        return torch.zeros_like(level.log_snr)

    def out(self, level: Level) -> Tensor:
        return torch.ones_like(level.log_snr)


class V(Prediction):
    """v = alpha noise - sigma x0 (Salimans & Ho 2022, section 4)."""

    def skip(self, level: Level) -> Tensor:
        return level.alpha

    def out(self, level: Level) -> Tensor:
        return -level.sigma


class Edm(Prediction):
    """Karras et al. 2022, table 1: input and target of unit variance at every level.

    Args:
        sigma_data: standard deviation of x0.
    """

    def __init__(self, sigma_data: float = 0.5) -> None:
        if sigma_data <= 0:
            raise ConfigError(f"Edm: sigma_data is {sigma_data}; it is the standard deviation of x0, above 0.")
        self.sigma_data = sigma_data

    def scale(self, level: Level) -> Tensor:
        return 1 / self._total(level)

    def skip(self, level: Level) -> Tensor:
        return level.alpha * self.sigma_data**2 / self._total(level) ** 2

    def out(self, level: Level) -> Tensor:
        return level.sigma * self.sigma_data / self._total(level)

    def _total(self, level: Level) -> Tensor:
        """Standard deviation of x_t."""
        return ((level.alpha * self.sigma_data) ** 2 + level.sigma**2).sqrt()
