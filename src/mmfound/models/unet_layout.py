"""Which layers a U-Net has, and in what order: that of the weights which OpenAI released.

Shape letters: B batch, C channels, H W picture, E width of the time embedding.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from mmfound.models.unet_parts import Attention, Resample, Residual
from mmfound.nn.unet_blocks import Context


class Layers(nn.Sequential):
    """Layers in a row, each told the context."""

    def forward(self, x_BCHW: Tensor, context: Context) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        for layer in self:
            x_BCHW = layer(x_BCHW, context)
        return x_BCHW


class Ways:
    """Makes the way down, the middle and the way up of a U-Net.

    Args:
        embed_dim: E.
        residual: the kind of residual block.
        resample: how levels lead to each other.
        attention: the kind of attention; none without it.
        attends: of each level, whether its blocks are followed by attention.
    """

    def __init__(
        self,
        embed_dim: int,
        residual: Residual,
        resample: Resample,
        attention: Attention | None,
        attends: Sequence[bool],
    ) -> None:
        self.embed_dim, self.residual, self.resample = embed_dim, residual, resample
        self.attention, self.attends = attention, attends

    def down(self, width: int, channels: Sequence[int], blocks: int) -> tuple[nn.ModuleList, list[int]]:
        """The way down, and the channels that each of its links carries, the stem's first."""
        steps, links = nn.ModuleList(), [width]
        for level, out in enumerate(channels):
            for _ in range(blocks):
                steps.append(Layers(self._block(links[-1], out), *self._attention(out, level)))
                links.append(out)
            if level + 1 < len(channels):
                steps.append(Layers(self.resample.down(out, self.embed_dim, self.residual)))
                links.append(out)
        return steps, links

    def middle(self, channels: int) -> nn.Module:
        """Block, attention, block."""
        attention = [self.attention.make(channels, self.residual.groups)] if self.attention else []
        return Layers(self._block(channels, channels), *attention, self._block(channels, channels))

    def up(self, channels: Sequence[int], blocks: int, links: Sequence[int]) -> nn.ModuleList:
        """The way up, whose blocks take the links in from the last to the first."""
        steps, links, before = nn.ModuleList(), list(links), channels[-1]
        for level, out in reversed(list(enumerate(channels))):
            for block in range(blocks + 1):
                layers = [self._block(before + links.pop(), out), *self._attention(out, level)]
                if level and block == blocks:
                    layers.append(self.resample.up(out, self.embed_dim, self.residual))
                steps.append(Layers(*layers))
                before = out
        return steps

    def _block(self, in_channels: int, out_channels: int) -> nn.Module:
        return self.residual.make(in_channels, out_channels, self.embed_dim)

    def _attention(self, channels: int, level: int) -> list[nn.Module]:
        if self.attention is None or not self.attends[level]:
            return []
        return [self.attention.make(channels, self.residual.groups)]
