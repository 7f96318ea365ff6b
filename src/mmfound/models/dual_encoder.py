"""Two towers and a temperature.

Shape letters: B samples, L text length, D width of the image tower, E joint embedding width.
"""

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.errors import ConfigError

if TYPE_CHECKING:
    from mmfound.diffusion.levels import Level


class DualEncoder(nn.Module):
    """Embeds pictures and texts in one space (Radford et al. 2021, arXiv:2103.00020, figure 3).

    Args:
        image_tower: [B, 3, H, W] in [0, 1] to [B, E].
        text_tower: [B, L] ids and [B, L] mask to [B, E].
        init_temperature: similarities are divided by it at the start; learned as `logit_scale`, the logarithm of its
            inverse.
        init_bias: added to the scaled similarities at the start; learned as `logit_bias`, which only losses with a bias
            read (-10 in Zhai et al. 2023, arXiv:2303.15343). Without it there is none.
    """

    logit_bias: nn.Parameter | None

    def __init__(
        self,
        image_tower: nn.Module,
        text_tower: nn.Module,
        init_temperature: float = 0.07,
        init_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.image_tower = image_tower
        self.text_tower = text_tower
        # FSDP2 and ZeRO refuse parameters without dimensions.
        self.logit_scale = nn.Parameter(torch.full((1,), -math.log(init_temperature)))
        bias = None if init_bias is None else nn.Parameter(torch.full((1,), float(init_bias)))
        self.register_parameter("logit_bias", bias)

    def embed_image(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] to [B, E] of unit length, float32 at least."""
        return _unit(self.image_tower(image))

    def image_features(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] to the image tower's [B, D] before the projection.

        Raises:
            ConfigError: when the tower has none.
        """
        return image_features(self.image_tower, image)

    def embed_noised(self, x_t: Tensor, level: "Level") -> Tensor:
        """Samples of a diffusion process to [B, E] of unit length, float32 at least.

        A tower that has not learned noise, which has no `forward_noised`, takes them as if they were pictures.

        Args:
            x_t: [B, 3, H, W] variance-preserving, of pictures in [-1, 1].
            level: how noisy they are.
        """
        forward_noised = getattr(self.image_tower, "forward_noised", None)
        if forward_noised is None:
            return self.embed_image((x_t + 1) / 2)
        return _unit(forward_noised(x_t, level))

    def embed_text(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """[B, L] int64 ids and [B, L] bool mask to [B, E] of unit length, float32 at least."""
        return _unit(self.text_tower(tokens, token_mask))


def image_features(image_tower: nn.Module, image: Tensor) -> Tensor:
    """[B, 3, H, W] float32 RGB in [0, 1] to what a tower has pooled before its last layer, [B, D] float32.

    Raises:
        ConfigError: when the tower has no `features`.
    """
    features = getattr(image_tower, "features", None)
    if features is None:
        raise ConfigError(
            f"{type(image_tower).__name__} has no features(image), [B, D] before its projection. "
            "Probe the embeddings, `features: embedding`, or use a tower that has, such as mmfound.models.TimmTower."
        )
    return features(image).float()


def _unit(x_BE: Tensor) -> Tensor:
    with torch.autocast(x_BE.device.type, enabled=False):
        return F.normalize(x_BE.to(torch.promote_types(x_BE.dtype, torch.float32)), dim=-1)
