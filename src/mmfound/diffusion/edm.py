"""The noise levels of Karras et al. 2022, arXiv:2206.00364."""

import math

import torch
from torch import Tensor

from mmfound.diffusion.schedules import Schedule, check_steps
from mmfound.errors import ConfigError


class EdmSchedule(Schedule):
    """Log-normal in training, crowding at the clean end by rho in sampling (table 1 of the paper).

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
