"""Processes of a number of steps, given by a table of betas: those of the published weights."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmfound.diffusion.schedules import Schedule, check_betas, check_steps
from mmfound.diffusion.spacing import spaced
from mmfound.errors import ConfigError

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Betas(ABC):
    """The variances of the noise added in each step.

    Attributes:
        steps: T, their number.
    """

    steps: int

    @abstractmethod
    def table(self) -> Floats:
        """[T] float64 in (0, 1)."""


class CosineBetas(Betas):
    """betas whose alpha_bar follows `CosineSchedule`, none above a cap; `squaredcos_cap_v2` elsewhere.

    Source: Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.2.

    Args:
        steps: T.
        offset: s of the paper.
        max_beta: the cap. Without one the last beta is 1, and no signal is left.
    """

    def __init__(self, steps: int = 1000, offset: float = 0.008, max_beta: float = 0.999) -> None:
        _check_length(self, steps)
        if offset < 0 or not 0 < max_beta < 1:
            raise ConfigError(
                f"CosineBetas: offset {offset}, max_beta {max_beta}; offset must be 0 or more, max_beta in (0, 1). "
                "For no signal in the last step, see ZeroTerminal."
            )
        self.steps, self.offset, self.max_beta = steps, offset, max_beta

    def table(self) -> Floats:
        angle = (np.arange(self.steps + 1) / self.steps + self.offset) / (1 + self.offset) * (np.pi / 2)
        before, after = angle[:-1], angle[1:]
        betas = np.sin(after - before) * np.sin(after + before) / np.cos(before) ** 2  # 1 - cos^2 after / cos^2 before
        return np.minimum(betas, self.max_beta)


class LinearBetas(Betas):
    """betas that grow evenly (Ho et al. 2020, arXiv:2006.11239, section 4); GLIDE's upsampler.

    Args:
        steps: T.
        start: the first.
        end: the last.
    """

    def __init__(self, steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> None:
        _check_length(self, steps)
        check_betas(self, start, end, 1)
        self.steps, self.start, self.end = steps, start, end

    def table(self) -> Floats:
        return np.linspace(self.start, self.end, self.steps, dtype=np.float64)


class ScaledLinearBetas(Betas):
    """betas whose square roots grow evenly, as in latent diffusion (Rombach et al. 2022, arXiv:2112.10752).

    Args:
        steps: T.
        start: the first.
        end: the last.
    """

    def __init__(self, steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> None:
        _check_length(self, steps)
        check_betas(self, start, end, 1)
        self.steps, self.start, self.end = steps, start, end

    def table(self) -> Floats:
        return np.linspace(self.start**0.5, self.end**0.5, self.steps, dtype=np.float64) ** 2


class DiscreteSchedule(Schedule):
    """Times 0 to T - 1, at which alpha_bar is the product of 1 - beta up to there; -1 is the clean end.

    The network is told these numbers, however few of them are sampled at.

    Args:
        betas: of each step.
        spacing: which times to sample at; "trailing" (which alone always starts at the noisiest), "leading",
            "linspace", a respacing as GLIDE writes them ("100" in quotes, "10,10,3,2,2", "ddim50", "fast27"), or the
            times themselves, in any order. See `mmfound.diffusion.spacing`.
    """

    def __init__(self, betas: Betas, spacing: str | Sequence[int] = "trailing") -> None:
        log_alpha_bar = np.cumsum(np.log1p(-betas.table()))
        log_snr = log_alpha_bar - np.log(-np.expm1(log_alpha_bar))
        self._log_snr = torch.from_numpy(np.append(log_snr, math.inf))  # so that -1 is the clean end
        self.spacing = spacing
        if not (isinstance(spacing, str) and spacing in ("trailing", "leading", "linspace")):
            spaced(betas.steps, spacing, None)  # a mistake is told now

    @property
    def train_steps(self) -> int:
        return len(self._log_snr) - 1

    @property
    def ends(self) -> tuple[float, float]:
        return 0.0, self.train_steps - 1.0

    def log_snr(self, time: Tensor) -> Tensor:
        return self._log_snr[time.to("cpu", torch.int64)].to(time.device)

    def draw(self, u: Tensor) -> Tensor:
        return (u.double() * self.train_steps).floor().clamp(max=self.train_steps - 1)

    def times(self, steps: int) -> Tensor:
        check_steps(self, steps, self.train_steps)
        chosen = spaced(self.train_steps, self.spacing, steps)
        return torch.tensor(chosen[::-1], dtype=torch.float64, device="cpu")

    def network_time(self, time: Tensor) -> Tensor:
        return time.float()


def _check_length(betas: Betas, steps: int) -> None:
    if steps < 2:
        raise ConfigError(f"{type(betas).__name__}: {steps} steps; a process has 2 or more, 1000 in most papers.")
