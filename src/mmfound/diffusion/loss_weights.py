"""How much the error at each noise level counts."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mmfound.diffusion.levels import Level
from mmfound.diffusion.predictions import Prediction
from mmfound.errors import ConfigError


class LossWeight(ABC):
    """Factor on the squared error of the network's output, whatever that predicts."""

    @abstractmethod
    def __call__(self, level: Level, prediction: Prediction) -> Tensor:
        """[] or [B] float64."""


class Uniform(LossWeight):
    """1: the simple loss of Ho et al. 2020, arXiv:2006.11239, equation 14, where the network predicts the noise."""

    def __call__(self, level: Level, prediction: Prediction) -> Tensor:
        return torch.ones_like(level.log_snr)


class CleanWeight(LossWeight):
    """Says how much errors of x0 count; since x0 = skip x_t + out output, those of the output count out^2 times that.

    So the loss is the same under every prediction.
    """

    @abstractmethod
    def on_x0(self, level: Level) -> Tensor:
        """[] or [B] float64 factor on the squared error of x0."""

    def __call__(self, level: Level, prediction: Prediction) -> Tensor:
        return self.on_x0(level) * prediction.out(level) ** 2


class CleanUniform(CleanWeight):
    """1 on x0: the simple loss of a network that predicts x0, under every prediction.

    Small networks learn what the whole picture shows sooner by it, as noise that hides single pixels counts little.
    """

    def on_x0(self, level: Level) -> Tensor:
        return torch.ones_like(level.log_snr)


class MinSnr(CleanWeight):
    """min(SNR, gamma) on x0 (Hang et al. 2023, arXiv:2303.09556).

    Under v that leaves errors of the output a weight of min(SNR, gamma) / (SNR + 1), next to nothing at high noise.

    Args:
        gamma: above this SNR all levels count the same.
    """

    def __init__(self, gamma: float = 5.0) -> None:
        self.gamma = _positive("MinSnr", "gamma", gamma)

    def on_x0(self, level: Level) -> Tensor:
        return level.snr.clamp(max=self.gamma)


class SoftMinSnr(CleanWeight):
    """The harmonic sum of SNR and gamma on x0 (Crowson et al. 2024, arXiv:2401.11605): MinSnr without the kink.

    Args:
        gamma: 1 / sigma_data^2 as k-diffusion writes it, 4 for its sigma_data of 0.5.
    """

    def __init__(self, gamma: float = 4.0) -> None:
        self.gamma = _positive("SoftMinSnr", "gamma", gamma)

    def on_x0(self, level: Level) -> Tensor:
        return 1 / ((-level.log_snr).exp() + 1 / self.gamma)


class EdmWeight(CleanWeight):
    """SNR + 1 / sigma_data^2 on x0, so 1 on the output of `Edm` (Karras et al. 2022, arXiv:2206.00364, section 5).

    Args:
        sigma_data: standard deviation of x0, as given to `Edm`.
    """

    def __init__(self, sigma_data: float = 0.5) -> None:
        self.sigma_data = _positive("EdmWeight", "sigma_data", sigma_data)

    def on_x0(self, level: Level) -> Tensor:
        return level.snr + 1 / self.sigma_data**2


def _positive(owner: str, name: str, value: float) -> float:
    if value <= 0:
        raise ConfigError(f"{owner}: {name} is {value}; it must be above 0.")
    return value
