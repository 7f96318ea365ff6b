"""How noisy a sample is.

Every process here is variance-preserving: x_t = alpha x0 + sigma noise with alpha^2 + sigma^2 = 1, so one number, the
log signal-to-noise ratio, says all. EDM's x0 + s noise is the same sample divided by alpha, s = sigma / alpha.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """One noise level for a batch, or one for each of its samples.

    Attributes:
        time: [] or [B] float64, as the schedule counts it.
        log_snr: [] or [B] float64, natural log of alpha^2 / sigma^2.
    """

    time: Tensor
    log_snr: Tensor

    @property
    def alpha(self) -> Tensor:
        """[] or [B] float64 factor on the clean sample."""
        return self.log_snr.sigmoid().sqrt()

    @property
    def sigma(self) -> Tensor:
        """[] or [B] float64 factor on the noise."""
        return (-self.log_snr).sigmoid().sqrt()

    @property
    def snr(self) -> Tensor:
        """[] or [B] float64 signal-to-noise ratio, alpha^2 / sigma^2."""
        return self.log_snr.exp()

    @property
    def is_clean(self) -> bool:
        """Whether this is the end of the way, x0 itself. Never ask a network there."""
        return self.log_snr.dim() == 0 and math.isinf(float(self.log_snr)) and float(self.log_snr) > 0


CLEAN = Level(torch.tensor(-1.0, dtype=torch.float64), torch.tensor(math.inf, dtype=torch.float64))


def spread(value: Tensor, x: Tensor) -> Tensor:
    """A number [] or one per sample [B] as something to multiply x [B, ...] with, of its dtype and device."""
    value = value.to(device=x.device, dtype=x.dtype)
    return value.reshape(-1, *[1] * (x.dim() - 1)) if value.dim() else value


def add_noise(x0: Tensor, noise: Tensor, level: Level) -> Tensor:
    """x_t = alpha x0 + sigma noise, all [B, ...]."""
    return spread(level.alpha, x0) * x0 + spread(level.sigma, x0) * noise
