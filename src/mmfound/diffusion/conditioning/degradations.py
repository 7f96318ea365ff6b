"""What makes an upsampler bear the faults of the stage before it.

Shape letters: B batch, H W picture, E width of the network's time embedding.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.diffusion.conditioning import draws
from mmfound.diffusion.levels import add_noise
from mmfound.diffusion.schedules import Schedule
from mmfound.errors import ConfigError
from mmfound.nn.time_embedding import sinusoids

_NOISE = 11  # purpose of the draws


class GaussianBlur(nn.Module):
    """Blurs each picture with a probability.

    Args:
        probability: in [0, 1].
        sigma: in pixels of the smaller picture.
        kernel_size: odd.

    Source: Ho et al. 2021, arXiv:2106.15282.
    """

    def __init__(self, probability: float = 0.5, sigma: float = 0.6, kernel_size: int = 3) -> None:
        super().__init__()
        if not 0 <= probability <= 1 or sigma <= 0 or kernel_size % 2 != 1:
            raise ConfigError(
                f"GaussianBlur: probability {probability} must lie in [0, 1], sigma {sigma} above 0, and kernel_size "
                f"{kernel_size} must be odd."
            )
        self.probability = probability
        self.sigma = sigma
        self.kernel_size = kernel_size

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> the same, some of them blurred."""
        chosen_B = (torch.rand(len(image), dtype=torch.float32) < self.probability).to(image.device)
        return torch.where(chosen_B[:, None, None, None], self.blurred(image), image)

    def blurred(self, image: Tensor) -> Tensor:
        """[B, C, H, W], all of them blurred; the border is mirrored."""
        half = self.kernel_size // 2
        at = torch.arange(-half, half + 1, device=image.device, dtype=image.dtype)
        line = torch.exp(-0.5 * (at / self.sigma) ** 2)
        line = (line / line.sum()).expand(image.shape[1], 1, 1, -1)
        padded = F.pad(image, (half, half, half, half), mode="reflect")
        across = F.conv2d(padded, line, groups=image.shape[1])
        return F.conv2d(across, line.transpose(2, 3), groups=image.shape[1])


class NoiseAugmentation(nn.Module):
    """Noise of a random level in training, of a chosen one else; the network is told the level by a vector.

    The level is a time of `schedule`, drawn as its times are in training. Otherwise it is
    `batch["augmentation_level"]`, the share of the way from clean to noise, in [0, 1), one number or [B].

    Args:
        schedule: of the noise.
        embed_dim: E.
        level: where the batch says none.

    Source: Ho et al. 2021, arXiv:2106.15282; Saharia et al. 2022, arXiv:2205.11487.
    """

    def __init__(self, schedule: Schedule, embed_dim: int, level: float = 0.2) -> None:
        super().__init__()
        if embed_dim % 2:
            raise ConfigError(f"NoiseAugmentation: embed_dim is {embed_dim}; it has to be even, for cosines and sines.")
        if not 0 <= level < 1:
            raise ConfigError(f"NoiseAugmentation: level is {level}; it is a share of the way to noise, in [0, 1).")
        self.schedule = schedule
        self.embed_dim = embed_dim
        self.level = level
        self.embedding = nn.Sequential(nn.Linear(embed_dim, embed_dim), nn.SiLU(), nn.Linear(embed_dim, embed_dim))

    def forward(self, batch: Mapping[str, Any], image: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, H, W] in [-1, 1] -> the same with noise, and [B, E]."""
        level = self.schedule.level(self.schedule.draw(self._shares(batch, len(image))))
        noised = add_noise(image, draws.normal(batch, image, _NOISE), level)
        time_B = self.schedule.network_time(level.time).to(image.device)
        weight = self.embedding[0].weight
        return noised, self.embedding(sinusoids(time_B, self.embed_dim).to(weight.dtype))  # pyright: ignore

    def _shares(self, batch: Mapping[str, Any], size: int) -> Tensor:
        """[B] float64 in [0, 1) on the CPU."""
        if "augmentation_level" in batch:
            given = torch.as_tensor(batch["augmentation_level"], dtype=torch.float64, device="cpu")
            if not ((given >= 0) & (given < 1)).all():
                raise ConfigError(
                    f"augmentation_level is {given.tolist()}; it is a share of the way to noise, in [0, 1)."
                )
            return given.expand(size)
        if self.training:
            return torch.rand(size, dtype=torch.float64)
        return torch.full((size,), self.level, dtype=torch.float64)
