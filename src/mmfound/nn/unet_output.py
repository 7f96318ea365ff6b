"""The last layers of `mmfound.models.UNet`: from channels to a picture.

Shape letters: B batch, C channels, h w side of the first level, H W that of the picture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.nn.unet_blocks import zeroed


class OutputConv(nn.Conv2d):
    """A 3 x 3 convolution in float32 at least: noise of its rounding would be noise of the picture.

    Args:
        in_channels: of the input.
        channels: of the picture.
        patch: side of the square of the picture's pixels that each pixel of the input becomes.
    """

    def __init__(self, in_channels: int, channels: int, patch: int = 1) -> None:
        super().__init__(in_channels, channels * patch**2, 3, padding=1)
        self.channels, self.patch = channels, patch

    def forward(self, input: Tensor, x: Tensor | None = None) -> Tensor:  # noqa: A002 - nn.Conv2d's own name
        """[B, C, h, w] -> [B, channels, H, W]; the noised picture x is not looked at."""
        dtype = torch.promote_types(input.dtype, torch.float32)
        assert self.bias is not None
        with torch.autocast(input.device.type, enabled=False):
            out = F.conv2d(input.to(dtype), self.weight.to(dtype), self.bias.to(dtype), padding=1)
        return F.pixel_shuffle(out, self.patch)


class PixelOutput(nn.Module):
    """Unfolds patches to pixels with some channels each, and joins them with the pixels that the network was given.

    Args:
        in_channels: of the last level.
        given: channels of the picture that the network was given.
        channels: of the picture that it makes.
        patch: side of the square of pixels that each pixel of the last level becomes.
        width: channels of a pixel in between.
    """

    def __init__(self, in_channels: int, given: int, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.channels, self.patch = channels, patch
        self.unfold = nn.Conv2d(in_channels, width * patch**2, 3, padding=1)
        self.mix = nn.Conv2d(given + width, width, 3, padding=1)
        self.last = zeroed(OutputConv(width, channels))

    def forward(self, h_BChw: Tensor, x: Tensor) -> Tensor:
        """[B, C, h, w] and the picture given, [B, given, H, W] -> [B, channels, H, W]."""
        pixels = F.pixel_shuffle(self.unfold(h_BChw), self.patch)
        return self.last(F.silu(self.mix(torch.cat([x.to(pixels.dtype), pixels], dim=1))))
