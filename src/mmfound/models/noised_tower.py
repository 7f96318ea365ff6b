"""An image tower for noised pictures, such as samplers are guided with.

Shape letters: B images, D width, E joint embedding width, T levels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mmfound.diffusion.levels import Level, add_noise
from mmfound.diffusion.schedules import Schedule
from mmfound.errors import ConfigError

LEVELS = 1000


class NoisedTower(nn.Module):
    """Learns from noised pictures, and is told how noisy they are.

    In training every picture gets noise of its own level, one of 1000 at equal shares of the schedule's training times,
    drawn from torch's generators: with `StepSeed`, by the seed and the position in the run. In eval mode pictures are
    taken as they are, at the least noisy level, unless `forward_noised` says another.

    Source: Nichol et al. 2021, arXiv:2112.10741.

    Args:
        tower: ([B, 3, H, W], of [0, 1] without noise; [B] float32 number of the level, 0 to 999) to [B, E], such as
            `TimedViT`. The number is the time itself where the schedule is a table of 1000 steps.
        schedule: of the noise it learns. It guides samplers of other schedules too, at equal signal-to-noise ratios.

    Raises:
        ConfigError: when the tower is not told levels.
    """

    def __init__(self, tower: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        if not hasattr(tower, "image_size"):
            raise ConfigError(
                f"NoisedTower: {type(tower).__name__} is not told how noisy a picture is; use mmfound.models.TimedViT "
                "or TimedConv."
            )
        self.tower = tower
        self.width: Any = tower.width
        self.schedule = schedule
        self._levels = levels_of(schedule, torch.arange(LEVELS))  # no buffers: strategies cast those
        self._between = -(self._levels.log_snr[1:] + self._levels.log_snr[:-1]) / 2

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
            level: of all of them or of each, by any schedule; its log-SNR alone counts, and the nearest level that the
                tower has learned stands for it.

        Returns:
            [B, E], not normalised.
        """
        number = torch.bucketize(-level.log_snr.double().cpu(), self._between, right=True)
        return self.tower((x_t + 1) / 2, number.float().expand(len(x_t)).to(x_t.device))

    def _noised(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures as the tower takes them, and the numbers of their levels."""
        if not self.training:
            return image, image.new_zeros(len(image), dtype=torch.float32)
        number_B = torch.randint(LEVELS, (len(image),))
        level = Level(self._levels.time[number_B], self._levels.log_snr[number_B])
        x0 = image.float() * 2 - 1
        x_t = add_noise(x0, torch.randn_like(x0), level)
        return (x_t + 1) / 2, number_B.float().to(image.device)


def levels_of(schedule: Schedule, number: Tensor) -> Level:
    """Levels by number: 0 to 999 are the least to the most noisy of 1000 at equal shares of the training times."""
    return schedule.level(schedule.draw((number.double() + 0.5) / LEVELS))
