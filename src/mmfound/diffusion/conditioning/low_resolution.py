"""The picture of an earlier stage as condition of an upsampler.

Shape letters: B batch, H W side of the stage's pictures, E width of the network's time embedding.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from mmfound.diffusion.conditioning.condition import Condition
from mmfound.diffusion.conditioning.conditioner import Conditioner
from mmfound.diffusion.conditioning.degradations import GaussianBlur, NoiseAugmentation
from mmfound.errors import ConfigError

Interpolation = Literal["bicubic", "bilinear"]


class LowResolution(Conditioner):
    """Three channels in [-1, 1]: a smaller picture, upsampled to that of the stage.

    It is `batch["low_resolution"]`, [B, 3, h, w] in [0, 1] of any size up to the stage's; or, in training, what is left
    of `batch["image"]` at `size` pixels (antialiased bicubic). Either is rounded to 8 bits, as a picture that was saved
    in between would be. It is never dropped: an upsampler always has it.

    Args:
        size: side of the earlier stage's pictures, in pixels.
        target: side of this stage's.
        interpolation: of the upsampling; "bilinear" for the released GLIDE weights, whose code has it.
        blur: of the smaller picture, in training only.
        augmentation: noise on the upsampled picture, whose level the network is told.

    Raises:
        ConfigError: when it is not smaller.
    """

    channels = 3
    reads_one_of = ("low_resolution", "image")

    def __init__(
        self,
        size: int,
        target: int,
        interpolation: Interpolation = "bicubic",
        blur: GaussianBlur | None = None,
        augmentation: NoiseAugmentation | None = None,
    ) -> None:
        super().__init__()
        if not 0 < size < target:
            raise ConfigError(f"LowResolution: size is {size} and target {target}; upsampling needs 0 < size < target.")
        self.low_size, self.size = size, target
        self.interpolation: Interpolation = interpolation
        self.blur = blur
        self.augmentation = augmentation
        self.vector_width = augmentation.embed_dim if augmentation is not None else None

    def forward(self, batch: Mapping[str, Any], dropped_B: Tensor) -> Condition:
        """Channels of `batch["low_resolution"]` or, without it, of `batch["image"]`."""
        small = self._small(batch)
        if self.training and self.blur is not None:
            small = self.blur(small)
        large = self._upsampled(small) * 2 - 1
        if self.augmentation is None:
            return Condition(concat=large)
        noised, vector_BE = self.augmentation(batch, large)
        return Condition(concat=noised, vector=vector_BE)

    def _small(self, batch: Mapping[str, Any]) -> Tensor:
        """[B, 3, h, w] in [0, 1] of 8 bits."""
        if "low_resolution" in batch:
            small = batch["low_resolution"]
            if max(small.shape[-2:]) > (self.size or 0):
                raise ConfigError(
                    f"LowResolution: the picture has {small.shape[-1]} x {small.shape[-2]} pixels, more than the "
                    f"{self.size} x {self.size} that this stage makes. Give it a smaller one."
                )
        else:
            self.check_reads(batch.keys())
            small = downsampled(batch["image"], self.low_size)
        return eight_bits(small.float())

    def _upsampled(self, small: Tensor) -> Tensor:
        assert self.size is not None
        large = F.interpolate(small, (self.size, self.size), mode=self.interpolation, align_corners=False)
        return large.clamp(0, 1)  # bicubic overshoots at edges


def downsampled(image: Tensor, size: int) -> Tensor:
    """[B, 3, H, W] in [0, 1] -> [B, 3, size, size] in [0, 1]."""
    return F.interpolate(image.float(), (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def eight_bits(image: Tensor) -> Tensor:
    """A picture in [0, 1] as it is after having been saved with 8 bits."""
    return (image * 255).round() / 255
