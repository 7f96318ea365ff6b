"""A vision Transformer that is told the time.

Shape letters: B images, N patches, D width, E joint embedding width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfound.errors import ConfigError
from mmfound.nn.pixels import CLIP_MEAN, CLIP_STD, NormalizePixels
from mmfound.nn.time_table import TimeTable
from mmfound.nn.transformer import Activation, Block


class TimedViT(nn.Module):
    """CLIP's ViT with a learned vector of the time in the place of the class token.

    With the defaults and 64-pixel pictures, patches of 4, width 768 and 12 blocks of 12 heads it is the image tower of
    the noised CLIP that was released with GLIDE (Nichol et al. 2021, arXiv:2112.10741).

    Args:
        image_size: side of the pictures, a multiple of `patch_size`.
        patch_size: side of a patch.
        width: D, a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads.
        embed_dim: E.
        times: rows of the table of times; few are learned faster.
        activation: of the MLPs.
        mean: of each channel, for images in [0, 1].
        std: of each channel.

    Raises:
        ConfigError: when the patches do not fill the picture.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        embed_dim: int,
        *,
        times: int = 1000,
        activation: Activation = "gelu",
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ConfigError(f"TimedViT: image_size is {image_size}, no multiple of patch_size {patch_size}.")
        self.pixels = NormalizePixels(mean, std)
        self.patches = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        self.time = TimeTable(times, width, std=width**-0.5)
        self.positions = nn.Parameter(torch.empty(1 + (image_size // patch_size) ** 2, width))
        self.ln_pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, activation) for _ in range(depth))
        self.ln_post = nn.LayerNorm(width)
        self.head = nn.Linear(width, embed_dim, bias=False)
        self.image_size, self.width = image_size, width
        self.initialize()

    def initialize(self) -> None:
        """Draw all weights but the times anew."""
        nn.init.normal_(self.positions, std=self.width**-0.5)
        for block in self.blocks:
            block.initialize(len(self.blocks))  # pyright: ignore[reportCallIssue]
        nn.init.normal_(self.head.weight, std=self.width**-0.5)

    def forward(self, image: Tensor, time: Tensor) -> Tensor:
        """Embed pictures.

        Args:
            image: [B, 3, H, W] RGB, of [0, 1] without noise.
            time: [B] float32, how noisy they are.

        Returns:
            [B, E], not normalised.

        Raises:
            ConfigError: on pictures of another size.
        """
        return self.head(self.features(image, time))

    def features(self, image: Tensor, time: Tensor) -> Tensor:
        """The same before the projection, [B, D]."""
        if image.shape[-2:] != (self.image_size, self.image_size):
            size = "x".join(map(str, image.shape[-2:]))
            raise ConfigError(f"TimedViT takes pictures of {self.image_size} pixels a side, and was given {size}.")
        patch_BND = self.patches(self.pixels(image).to(self.positions.dtype)).flatten(2).transpose(1, 2)
        x_BLD = torch.cat([self.time(time)[:, None].to(patch_BND.dtype), patch_BND], dim=1)
        x_BLD = self.ln_pre(x_BLD + self.positions)
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return self.ln_post(x_BLD[:, 0])
