"""Schedules made of others by changing their noise levels."""

import math

import torch
from torch import Tensor

from mmfound.diffusion.schedules import Schedule
from mmfound.errors import ConfigError


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

    Source: Hoogeboom et al. 2023, arXiv:2301.11093: the same picture in more pixels keeps more of its signal,
    which shift = 64 / pixels undoes for a schedule made for 64.

    Args:
        schedule: what is shifted.
        shift: below 1 for more noise.
    """

    def __init__(self, schedule: Schedule, shift: float) -> None:
        super().__init__(schedule)
        if not shift > 0:  # nor NaN
            raise ConfigError(f"Shifted: shift is {shift}; it is above 0, and below 1 for more noise.")
        self.shift = shift

    def log_snr(self, time: Tensor) -> Tensor:
        return self.schedule.log_snr(time) + 2 * math.log(self.shift)


class ZeroTerminal(Rescheduled):
    """Another schedule with its alpha shifted to 0 at the most noisy time and scaled back at the least noisy one.

    So what sampling starts from is what training ended at. The noise says nothing about x0 there: predict V, X0 or Edm.

    Source: Lin et al. 2023, arXiv:2305.08891, algorithm 1.

    Args:
        schedule: its times, and what the network is told, stay.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule)
        first, last = (schedule.level(time) for time in schedule.ends)
        self._first, self._last = first.alpha, last.alpha
        self._first_gap = _gap(first.log_snr)

    def log_snr(self, time: Tensor) -> Tensor:
        inner = self.schedule.log_snr(time)
        scale = self._first - self._last
        alpha = self._first * (inner.sigmoid().sqrt() - self._last) / scale
        gap = (self._first * _gap(inner) - self._last * self._first_gap) / scale
        moved = 2 * torch.log(alpha.clamp(min=0)) - torch.log(gap * (1 + alpha))
        return torch.where(inner.isinf(), inner, moved)


def _gap(log_snr: Tensor) -> Tensor:
    """1 - alpha, exact where alpha is near 1."""
    return (-log_snr).sigmoid() / (1 + log_snr.sigmoid().sqrt())
