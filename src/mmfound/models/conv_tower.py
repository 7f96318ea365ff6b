"""A small convolutional image tower.

Shape letters: B images, N grid cells, D width, E joint embedding width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfound.nn.pixels import CLIP_MEAN, CLIP_STD, NormalizePixels


class ConvTower(nn.Module):
    """Five 3x3 convolutions with batch normalisation, a sixteenth of the resolution, mean, linear: made for the CPU.

    Args:
        width: channels of the first two layers; doubled after them, and doubled again for the last.
        embed_dim: E.
        mean: of each channel, for images in [0, 1].
        std: of each channel.
    """

    def __init__(
        self, width: int, embed_dim: int, *, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD
    ) -> None:
        super().__init__()
        self.pixels = NormalizePixels(mean, std)
        channels = [3, width, width, 2 * width, 2 * width, 4 * width]
        strides = [2, 2, 2, 2, 1]
        layers = zip(channels[:-1], channels[1:], strides, strict=True)
        self.layers = nn.Sequential(*(_conv_norm_relu(*layer) for layer in layers))
        self.layers.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.width = channels[-1]
        self.head = nn.Linear(self.width, embed_dim)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 in [0, 1], any size, to [B, E], not normalised."""
        return self.head(self.features(image))

    def features(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] to the mean over the grid, before the projection: [B, D]."""
        return self._features(image).mean(dim=(2, 3))

    def tokens(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] to the grid before pooling, row by row: [B, N, D]."""
        return self._features(image).flatten(2).transpose(1, 2)

    def depths(self) -> dict[str, int]:
        """Depth of every parameter by name: the first convolution 0, head last."""
        names = [(name, name.split(".")) for name, _ in self.named_parameters()]
        return {name: len(self.layers) if part[0] == "head" else int(part[1]) for name, part in names}

    def _features(self, image: Tensor) -> Tensor:
        pixels = self.pixels(image).to(self.head.weight.dtype, memory_format=torch.channels_last)
        return self.layers(pixels)


def _conv_norm_relu(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )
