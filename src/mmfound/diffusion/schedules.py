"""Noise schedules: log-SNR as a function of time, and which times are trained on and sampled at.

Times of the continuous ones run over (0, 1]. (i + 1) / 1000 stands for the time i of the published tables of 1000 steps
(`DiscreteSchedule`), and networks are told i: one trained on the cosine table can be sampled at any time between.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from mmfound.diffusion.levels import CLEAN, Level
from mmfound.errors import ConfigError


class Schedule(ABC):
    """Maps times to noise levels. Larger times are noisier; all arithmetic is in float64."""

    @abstractmethod
    def log_snr(self, time: Tensor) -> Tensor:
        """[...] times -> [...] float64 log of alpha^2 / sigma^2."""

    @abstractmethod
    def draw(self, u: Tensor) -> Tensor:
        """[B] numbers in [0, 1), uniform in training -> [B] float64 times to train at, in the order of u."""

    @abstractmethod
    def times(self, steps: int) -> Tensor:
        """[T] float64 times to sample at, falling, the clean end left out.

        Raises:
            ConfigError: when there are not so many.
        """

    @abstractmethod
    def network_time(self, time: Tensor) -> Tensor:
        """[...] times -> [...] float32, what the network's sinusoids are given."""

    @property
    @abstractmethod
    def ends(self) -> tuple[float, float]:
        """The least and the most noisy time."""

    @property
    def train_steps(self) -> int:
        """Number of steps of a discrete process: its times are 0 to this less 1, and -1 is its clean end.

        Raises:
            ConfigError: when the times are not such steps.
        """
        raise ConfigError(
            f"{type(self).__name__} has no steps to take the variational bound over; a learned variance (LearnedRange) "
            "is trained on a DiscreteSchedule. Take that, or FixedSmall or FixedLarge."
        )

    def level(self, time: Tensor | float) -> Level:
        """The level at a time [], or at one for each sample [B]."""
        at = time.double() if isinstance(time, Tensor) else torch.tensor(time, dtype=torch.float64, device="cpu")
        return Level(at, self.log_snr(at))

    def levels(self, steps: int) -> list[Level]:
        """T levels to sample at and then CLEAN."""
        return [*(self.level(time) for time in self.times(steps)), CLEAN]


class _Continuous(Schedule):
    """Times in (0, 1]; trained uniformly between its ends, sampled evenly from the noisiest."""

    def __init__(self, min_time: float, max_time: float) -> None:
        if not 0 < min_time < max_time <= 1:
            raise ConfigError(
                f"{type(self).__name__}: min_time is {min_time} and max_time {max_time}; it must be "
                "0 < min_time < max_time <= 1."
            )
        self._ends = (min_time, max_time)

    @property
    def ends(self) -> tuple[float, float]:
        return self._ends

    def draw(self, u: Tensor) -> Tensor:
        low, high = self._ends
        return low + (high - low) * u.double()

    def times(self, steps: int) -> Tensor:
        check_steps(self, steps, math.inf)
        low, high = self._ends
        return low + (high - low) * torch.arange(steps, 0, -1, dtype=torch.float64, device="cpu") / steps

    def network_time(self, time: Tensor) -> Tensor:
        return (1000 * time - 1).float()


class CosineSchedule(_Continuous):
    """alpha(t) = cos((t + s) / (1 + s) pi / 2) / cos(s / (1 + s) pi / 2), s the offset.

    Source: Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.2.

    Args:
        offset: s; keeps the noise at the first times from being too small.
        min_time: least noisy time.
        max_time: most noisy time; at 1 there is no signal. In the published table of 1000 steps the cap on beta
            concerns only what comes after the default.
    """

    def __init__(self, offset: float = 0.008, min_time: float = 0.001, max_time: float = 0.999) -> None:
        super().__init__(min_time, max_time)
        if offset < 0:
            raise ConfigError(f"CosineSchedule: offset is {offset}; it is 0 or more, 0.008 in the paper.")
        self.offset = offset

    def log_snr(self, time: Tensor) -> Tensor:
        start = _angle(self.offset, 0.0)
        angle = (time.double() + self.offset) / (1 + self.offset) * (math.pi / 2)
        # 1 - alpha^2 = (cos^2 start - cos^2 angle) / cos^2 start, as a product: exact where the two are close
        return torch.log(angle.cos() ** 2) - torch.log((angle - start).sin() * (angle + start).sin())


class LinearSchedule(_Continuous):
    """beta(t) linear in time: alpha(t)^2 = exp(-integral of beta from 0 to t), the variance-preserving SDE.

    Source: Song et al. 2021, arXiv:2011.13456; the limit of Ho et al. 2020's betas from 1e-4 to 0.02.

    Args:
        start: beta at time 0, per unit of time.
        end: beta at time 1.
        min_time: least noisy time.
        max_time: most noisy time.
    """

    def __init__(self, start: float = 0.1, end: float = 20.0, min_time: float = 0.001, max_time: float = 1.0) -> None:
        super().__init__(min_time, max_time)
        check_betas(self, start, end, math.inf)
        self.start, self.end = start, end

    def log_snr(self, time: Tensor) -> Tensor:
        time = time.double()
        return -torch.log(torch.expm1(time * self.start + time**2 * ((self.end - self.start) / 2)))


class ScaledLinear(_Continuous):
    """The square root of beta(t) linear in time, as in latent diffusion (Rombach et al. 2022, arXiv:2112.10752).

    Args:
        start: beta at time 0, per unit of time; 1000 times the first of 1000 discrete ones.
        end: beta at time 1.
        min_time: least noisy time.
        max_time: most noisy time.
    """

    def __init__(self, start: float = 0.85, end: float = 12.0, min_time: float = 0.001, max_time: float = 1.0) -> None:
        super().__init__(min_time, max_time)
        check_betas(self, start, end, math.inf)
        self.start, self.end = start, end

    def log_snr(self, time: Tensor) -> Tensor:
        time = time.double()
        root, slope = math.sqrt(self.start), math.sqrt(self.end) - math.sqrt(self.start)
        return -torch.log(torch.expm1(time * (self.start + time * slope * (root + time * slope / 3))))


def check_steps(schedule: Schedule, steps: int, most: float) -> None:
    """Refuse to sample in less than one step, or in more than `most`."""
    if not 1 <= steps <= most:
        up_to = "" if math.isinf(most) else f" to {int(most)}"
        raise ConfigError(f"{type(schedule).__name__}: {steps} steps; ask for 1{up_to or ' or more'}.")


def check_betas(owner: object, start: float, end: float, most: float) -> None:
    """Refuse betas that do not grow from above 0 to below `most`."""
    if not 0 < start <= end < most:
        below = "" if math.isinf(most) else f" < {most:g}"
        raise ConfigError(f"{type(owner).__name__}: beta from {start} to {end}; it must be 0 < start <= end{below}.")


def _angle(offset: float, time: float) -> float:
    return (time + offset) / (1 + offset) * (math.pi / 2)
