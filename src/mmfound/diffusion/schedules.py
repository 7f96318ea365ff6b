"""Noise schedules: log-SNR as a function of time, and which times are trained on and sampled at.

Times of the continuous schedules run over (0, 1]. (i + 1) / 1000 stands for the time i of the published tables of 1000
steps (`DiscreteSchedule`), and networks are told i: one trained on the cosine table can be sampled at any time between.
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


class EdmSchedule(Schedule):
    """The noise of Karras et al. 2022, arXiv:2206.00364, table 1: log-normal in training, rho spacing in sampling.

    With s = sigma / alpha, the paper's sigma, time is ln s. The paper's network is told ln(s) / 4; sinusoids made for
    0 to 999 get 1000 times that.

    Args:
        p_mean: mean of ln s in training.
        p_std: standard deviation of ln s in training.
        sigma_min: least s to sample at.
        sigma_max: largest s to sample at.
        rho: how much more the times of sampling crowd at the clean end.
    """

    def __init__(
        self,
        p_mean: float = -1.2,
        p_std: float = 1.2,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
    ) -> None:
        if not 0 < sigma_min < sigma_max or rho <= 0 or p_std <= 0:
            raise ConfigError(
                f"EdmSchedule: sigma_min {sigma_min}, sigma_max {sigma_max}, rho {rho}, p_std {p_std}; all must be "
                "above 0, and sigma_min below sigma_max."
            )
        self.p_mean, self.p_std = p_mean, p_std
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho

    def log_snr(self, time: Tensor) -> Tensor:
        return -2 * time.double()

    def draw(self, u: Tensor) -> Tensor:
        tail = 1e-9  # six standard deviations
        return self.p_mean + self.p_std * torch.special.ndtri(u.double().clamp(tail, 1 - tail))

    def times(self, steps: int) -> Tensor:
        check_steps(self, steps, math.inf)
        ramp = torch.arange(steps, dtype=torch.float64, device="cpu") / max(steps - 1, 1)
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        return self.rho * torch.log(high + ramp * (low - high))

    def network_time(self, time: Tensor) -> Tensor:
        return (250 * time).float()

    @property
    def ends(self) -> tuple[float, float]:
        return math.log(self.sigma_min), math.log(self.sigma_max)


class Rescheduled(Schedule):
    """Another schedule with its noise levels changed; its times, and what the network is told, stay."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def draw(self, u: Tensor) -> Tensor:
        return self.schedule.draw(u)

    def times(self, steps: int) -> Tensor:
        return self.schedule.times(steps)

    def network_time(self, time: Tensor) -> Tensor:
        return self.schedule.network_time(time)

    @property
    def ends(self) -> tuple[float, float]:
        return self.schedule.ends

    @property
    def train_steps(self) -> int:
        return self.schedule.train_steps


class Shifted(Rescheduled):
    """Another schedule with its log-SNR moved by 2 log(shift): sigma / alpha is 1 / shift times as large.

    Source: Hoogeboom et al. 2023, arXiv:2301.11093: the same picture in more pixels keeps more of its
    signal, which shift = 64 / pixels undoes for a schedule made for 64.

    Args:
        schedule: what is shifted.
        shift: below 1 for more noise.
    """

    def __init__(self, schedule: Schedule, shift: float) -> None:
        super().__init__(schedule)
        if shift <= 0:
            raise ConfigError(f"Shifted: shift is {shift}; it is above 0, and below 1 for more noise.")
        self.shift = shift

    def log_snr(self, time: Tensor) -> Tensor:
        return self.schedule.log_snr(time) + 2 * math.log(self.shift)


def _angle(offset: float, time: float) -> float:
    return (time + offset) / (1 + offset) * (math.pi / 2)


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
