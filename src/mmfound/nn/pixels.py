"""Pixel normalisation, owned by the network whose weights expect it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class NormalizePixels(nn.Module):
    """(image - mean) / std in float32 and one pass, whatever dtype the network around it is cast to.

    Args:
        mean: of each channel, for images in [0, 1].
        std: of each channel.
    """

    def __init__(self, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"mean {tuple(mean)} and std {tuple(std)} need one value per channel, std above 0.")
        scale = 1 / torch.tensor(std, dtype=torch.float64)
        shift = -torch.tensor(mean, dtype=torch.float64) * scale
        affine = torch.stack((shift, scale)).float().view(2, 1, -1, 1, 1)
        # The float32 bits travel as integers: `.bfloat16()`, which strategies call on whole networks, leaves them.
        self.register_buffer("affine_bits", affine.view(torch.int32), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """[B, C, H, W] in [0, 1] to float32 of the same shape and memory format.

        Raises:
            ValueError: on uint8 pictures, which are not in [0, 1].
        """
        if image.dtype == torch.uint8:
            raise ValueError("a tower was given uint8 pictures; use mmfound.batch.image_float on the batch first.")
        shift, scale = self.get_buffer("affine_bits").view(torch.float32).unbind(0)
        return torch.addcmul(shift, image.float(), scale)
