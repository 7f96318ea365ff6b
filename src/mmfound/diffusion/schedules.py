"""Noise schedules: log-SNR as a function of time, and which times are trained on and sampled at."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from mmfound.diffusion.levels import CLEAN, Level

Spacing = Literal["trailing", "leading", "linspace"]


class Schedule(ABC):
    """Maps times to noise levels. Larger times are noisier; all arithmetic is in float64."""

    @abstractmethod
    def log_snr(self, time: Tensor) -> Tensor:
        """[...] times -> [...] float64 log of alpha^2 / sigma^2."""

    @abstractmethod
    def draw(self, u: Tensor) -> Tensor:
        """[B] numbers in [0, 1), uniform in training -> [B] float64 times to train at."""

    @abstractmethod
    def times(self, steps: int) -> Tensor:
        """[T] float64 times to sample at, falling, the clean end left out.

        Raises:
            ConfigError: when there are not so many.
        """

    @abstractmethod
    def network_time(self, time: Tensor) -> Tensor:
        """[...] times -> [...] float32, what the network's sinusoids are given."""

    def level(self, time: Tensor | float) -> Level:
        """The level at a time [], or at one for each sample [B]."""
        at = torch.as_tensor(time, dtype=torch.float64)
        return Level(at, self.log_snr(at))

    def levels(self, steps: int) -> list[Level]:
        """T levels to sample at and then CLEAN."""
        return [*(self.level(time) for time in self.times(steps)), CLEAN]
