"""What is known of a picture as condition (GLIDE: Nichol et al. 2021, arXiv:2112.10741)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmfound.diffusion.conditioning import draws
from mmfound.diffusion.conditioning.condition import Condition
from mmfound.diffusion.conditioning.conditioner import Conditioner
from mmfound.diffusion.conditioning.masks import Masks, Rectangles
from mmfound.errors import ConfigError

_MASKS = 12  # purpose of the draws


class Inpainting(Conditioner):
    """Four channels: the known part of a picture in [-1, 1], 0 elsewhere; and the mask, 1 on what is KNOWN.

    The polarity is that of the released GLIDE weights; diffusers' inpainting has it the other way round. The picture is
    `batch["known_image"]`, or `batch["image"]` without it; the mask is `batch["mask"]`, or drawn where there is none.
    Without a picture nothing is known. It is never dropped.

    In an upsampler it stands before `LowResolution`, whose whole picture it does not mask: the released upsampler reads
    x_t, known part, mask and low resolution in this order.

    Args:
        size: side of the stage's pictures, in pixels.
        masks: to train with; Rectangles by default.
    """

    channels = 4

    def __init__(self, size: int, masks: Masks | None = None) -> None:
        super().__init__()
        self.size = size
        self.masks = masks or Rectangles()

    def forward(self, batch: Mapping[str, Any], dropped_B: Tensor) -> Condition:
        """Channels of `known_image` or `image` [B, 3, H, W] in [0, 1], and `mask` [B, 1, H, W]."""
        assert self.size is not None
        image = batch.get("known_image", batch.get("image"))
        if image is None:
            if "mask" in batch:
                raise ConfigError(
                    "Inpainting: the batch has a mask but neither known_image nor image; add the picture."
                )
            return Condition(
                concat=torch.zeros(
                    len(dropped_B), 4, self.size, self.size, dtype=torch.float32, device=dropped_B.device
                )
            )
        if image.shape[-2:] != (self.size, self.size):
            raise ConfigError(
                f"Inpainting has size: {self.size}, but the picture has {image.shape[-1]} x {image.shape[-2]} pixels."
            )
        mask = self._mask(batch, image)
        return Condition(concat=torch.cat([(image.float() * 2 - 1) * mask, mask], dim=1))

    def _mask(self, batch: Mapping[str, Any], image: Tensor) -> Tensor:
        """[B, 1, H, W] float32 of 0 and 1."""
        if "mask" in batch:
            mask = batch["mask"].to(image.device).float()
            if mask.shape != (len(image), 1, *image.shape[-2:]):
                raise ConfigError(
                    f"Inpainting: the mask has shape {list(mask.shape)}, the pictures {list(image.shape)}; it must be "
                    "[B, 1, H, W] of the same size, 1 on what is known."
                )
            return (mask >= 0.5).float()
        drawn = [self.masks(image.shape[-1], generator) for generator in draws.generators(batch, len(image), _MASKS)]
        return torch.stack(drawn).to(image.device)
