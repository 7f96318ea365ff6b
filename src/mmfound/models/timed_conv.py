"""A small convolutional image tower that is told the time.

Shape letters: B images, C channels, E joint embedding width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.errors import ConfigError
from mmfound.nn.pixels import CLIP_MEAN, CLIP_STD, NormalizePixels
from mmfound.nn.time_table import TimeTable

_GROUPS = 8
_STRIDES = (1, 2, 2, 2, 1)


class TimedConv(nn.Module):
    """Five 3x3 convolutions to an eighth of the resolution, mean, linear: made for the CPU.

    The time scales and shifts each layer's normalised channels. The normalisation is by groups, so that a picture's
    embedding does not depend on how noisy the others of its batch are; the activation is smooth, for gradients with
    respect to the picture; and a learned map of the places is added before the last layer, so that the mean knows where
    things are.

    Args:
        image_size: side of the pictures, a multiple of 8.
        width: channels of the first two layers, a multiple of 8; doubled after them, and doubled again for the last.
        embed_dim: E.
        times: rows of the table of times.
        mean: of each channel, for images in [0, 1].
        std: of each channel.

    Raises:
        ConfigError: when a size is no multiple of 8.
    """

    def __init__(
        self,
        image_size: int,
        width: int,
        embed_dim: int,
        *,
        times: int = 17,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        super().__init__()
        for name, value in (("image_size", image_size), ("width", width)):
            if value % 8:
                raise ConfigError(f"TimedConv: {name} is {value}; it is a multiple of 8.")
        self.pixels = NormalizePixels(mean, std)
        channels = [3, width, width, 2 * width, 2 * width, 4 * width]
        sizes = zip(channels[:-1], channels[1:], _STRIDES, strict=True)
        self.layers = nn.ModuleList(_Layer(*size, times) for size in sizes)
        self.layers.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.places = nn.Parameter(torch.randn(channels[-2], image_size // 8, image_size // 8) * 0.02)
        self.image_size, self.width = image_size, channels[-1]
        self.head = nn.Linear(self.width, embed_dim)

    def forward(self, image: Tensor, time: Tensor) -> Tensor:
        """Embed pictures; arguments, result and errors as those of `TimedViT`."""
        return self.head(self.features(image, time))

    def features(self, image: Tensor, time: Tensor) -> Tensor:
        """The mean over the grid, before the projection, [B, D]."""
        if image.shape[-2:] != (self.image_size, self.image_size):
            size = "x".join(map(str, image.shape[-2:]))
            raise ConfigError(f"TimedConv takes pictures of {self.image_size} pixels a side, and was given {size}.")
        x = self.pixels(image).to(self.head.weight.dtype, memory_format=torch.channels_last)
        for layer in self.layers[:-1]:
            x = layer(x, time)
        return self.layers[-1](x + self.places, time).mean(dim=(2, 3))


class _Layer(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int, times: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, channels_out)
        self.time = TimeTable(times, 2 * channels_out, std=0)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale_BC, shift_BC = self.time(time).chunk(2, dim=1)
        x = self.norm(self.conv(x))
        return F.silu(torch.addcmul(shift_BC[:, :, None, None], x, 1 + scale_BC[:, :, None, None]))
