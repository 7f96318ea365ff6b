"""No signal at the last time, so that what sampling starts from is what training ended at."""

import torch
from torch import Tensor

from mmfound.diffusion.schedules import Rescheduled, Schedule


class ZeroTerminal(Rescheduled):
    """Another schedule with its alpha shifted to 0 at the most noisy time and scaled back at the least noisy one.

    The noise says nothing about x0 at the last time: predict V, X0 or Edm.

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
