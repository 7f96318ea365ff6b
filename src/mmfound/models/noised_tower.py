"""An image tower for noised pictures, such as samplers are guided with.

Shape letters: B images, D width, E joint embedding width, T levels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mmfound.diffusion.levels import Level, add_noise
from mmfound.diffusion.schedules import Schedule
from mmfound.errors import ConfigError

_LEVELS = 1000


class NoisedTower(nn.Module):
    """Learns from noised pictures, and is told how noisy they are.

    In training every picture gets noise of its own time, drawn as the schedule draws them, from torch's generators:
    with `StepSeed`, by the seed and the position in the run. In eval mode pictures are taken as they are, at the least
    noisy level, unless `forward_noised` says another.

    Source: Nichol et al. 2021, arXiv:2112.10741.

    Args:
        tower: ([B, 3, H, W], of [0, 1] without noise; [B] float32 times) to [B, E], such as `TimedViT`.
        schedule: of the noise; guides samplers of other schedules too, at equal signal-to-noise ratios.

    Raises:
        ConfigError: when the tower takes no times.
    """

    def __init__(self, tower: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        if not hasattr(tower, "features") or not hasattr(tower, "image_size"):
            raise ConfigError(
                f"NoisedTower: {type(tower).__name__} is not told the time; use mmfound.models.TimedViT or TimedConv."
            )
        self.tower = tower
        self.schedule = schedule
        self.width: Any = tower.width
        # No buffers: strategies cast those.
        self._time_T = schedule.draw((torch.arange(_LEVELS, dtype=torch.float64) + 0.5) / _LEVELS).sort().values
        log_snr_T = schedule.log_snr(self._time_T)
        self._between = -(log_snr_T[1:] + log_snr_T[:-1]) / 2

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 in [0, 1] to [B, E], not normalised; noised first in training."""
        return self.tower(*self._noised(image))

    def features(self, image: Tensor) -> Tensor:
        """The same before the projection, [B, D]."""
        features: Any = self.tower.features
        return features(*self._noised(image))

    def forward_noised(self, x_t: Tensor, level: Level) -> Tensor:
        """Embed samples of a diffusion process.

        Args:
            x_t: [B, 3, H, W] variance-preserving, of pictures in [-1, 1].
            level: of all of them or of each; of any schedule. The nearest that the tower has learned counts.

        Returns:
            [B, E], not normalised.
        """
        return self.tower((x_t + 1) / 2, self.network_time(level, len(x_t)).to(x_t.device))

    def network_time(self, level: Level, size: int) -> Tensor:
        """[B] float32 times of this tower's schedule for `size` samples at a level."""
        row = torch.bucketize(-level.log_snr.double().cpu(), self._between, right=True)
        return self.schedule.network_time(self._time_T[row]).float().expand(size)

    def _noised(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures and their times."""
        if not self.training:
            time = self.schedule.network_time(self._time_T[:1]).float()
            return image, time.to(image.device).expand(len(image))
        level = self.schedule.level(self.schedule.draw(torch.rand(len(image), dtype=torch.float64)))
        x0 = image.float() * 2 - 1
        x_t = add_noise(x0, torch.randn_like(x0), level)
        return (x_t + 1) / 2, self.schedule.network_time(level.time).float().to(image.device)
