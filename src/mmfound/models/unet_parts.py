"""What a `UNet` is made of, as recipes choose it: a kind of residual block, of resampling, of attention and of head.

Objects here are plain descriptions; they make layers that are called with (x [B, C, H, W], context).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import nn

from mmfound.errors import ConfigError
from mmfound.nn.unet_attention import JointAttention, SpatialTransformer
from mmfound.nn.unet_blocks import (
    AdditiveNorm,
    ConvDouble,
    ConvHalve,
    Double,
    Halve,
    ResidualBlock,
    ScaleShiftNorm,
    zeroed,
)
from mmfound.nn.unet_output import OutputConv, PixelOutput


@dataclass(frozen=True)
class Residual(ABC):
    """A kind of residual block.

    Args:
        dropout: in front of the last convolution of a block, in training.
        groups: of every norm of the U-Net; has to divide its width.
    """

    dropout: float = 0.0
    groups: int = 32

    def make(self, in_channels: int, out_channels: int, embed_dim: int, resample: nn.Module | None = None) -> nn.Module:
        """A block, which resamples where it is given how."""
        norm = self.norm(out_channels, embed_dim)
        return ResidualBlock(in_channels, out_channels, norm, self.groups, self.dropout, resample)

    @abstractmethod
    def norm(self, channels: int, embed_dim: int) -> nn.Module:
        """How time and vector come in: (x [B, C, H, W], embedding [B, E]) -> x."""


class ScaleShift(Residual):
    """Time scales and shifts the normalised channels: ADM, GLIDE, unCLIP."""

    def norm(self, channels: int, embed_dim: int) -> nn.Module:
        return ScaleShiftNorm(self.groups, channels, embed_dim)


class Additive(Residual):
    """Time is added to the channels in front of the norm: latent diffusion."""

    def norm(self, channels: int, embed_dim: int) -> nn.Module:
        return AdditiveNorm(self.groups, channels, embed_dim)


class Resample(ABC):
    """How one level of a U-Net leads to the next."""

    @abstractmethod
    def down(self, channels: int, embed_dim: int, residual: Residual) -> nn.Module:
        """Half the side."""

    @abstractmethod
    def up(self, channels: int, embed_dim: int, residual: Residual) -> nn.Module:
        """Twice the side."""


class InBlocks(Resample):
    """Within a residual block, by means and by repeating pixels: ADM, GLIDE, unCLIP."""

    def down(self, channels: int, embed_dim: int, residual: Residual) -> nn.Module:
        return residual.make(channels, channels, embed_dim, Halve())

    def up(self, channels: int, embed_dim: int, residual: Residual) -> nn.Module:
        return residual.make(channels, channels, embed_dim, Double())


class ByConvolution(Resample):
    """By one convolution: latent diffusion."""

    def down(self, channels: int, embed_dim: int, residual: Residual) -> nn.Module:
        return ConvHalve(channels)

    def up(self, channels: int, embed_dim: int, residual: Residual) -> nn.Module:
        return ConvDouble(channels)


class Attention(ABC):
    """A kind of attention layer.

    Attributes:
        token_width: of the tokens that it attends to; None where it attends to pixels alone.
    """

    token_width: int | None

    @abstractmethod
    def make(self, channels: int, groups: int) -> nn.Module:
        """A layer."""


@dataclass(frozen=True)
class Joint(Attention):
    """Pixels attend to pixels and tokens in one softmax: GLIDE, unCLIP, and without tokens ADM.

    Args:
        token_width: of the condition's tokens; without it pixels attend to pixels alone.
        head_dim: width of a head; has to divide the channels where there is attention.
    """

    token_width: int | None = None
    head_dim: int = 64

    def make(self, channels: int, groups: int) -> nn.Module:
        return JointAttention(channels, _heads(channels, self.head_dim), groups, self.token_width)


@dataclass(frozen=True)
class Spatial(Attention):
    """Transformer layers: attention to pixels, attention to tokens, gated MLP: latent diffusion.

    Args:
        token_width: of the condition's tokens.
        heads: number of heads; has to divide the channels where there is attention.
        head_dim: width of a head, in place of `heads`.
        depth: layers in a row.
    """

    token_width: int  # pyright: ignore[reportIncompatibleVariableOverride] - never None here
    heads: int | None = None
    head_dim: int | None = None
    depth: int = 1

    def __post_init__(self) -> None:
        if (self.heads is None) == (self.head_dim is None):
            raise ConfigError(
                f"Spatial: heads is {self.heads} and head_dim is {self.head_dim}; set one of them, the number of heads "
                "or the width of one."
            )

    def make(self, channels: int, groups: int) -> nn.Module:
        if self.heads is not None and channels % self.heads:
            raise ConfigError(f"heads is {self.heads}, which does not divide the {channels} channels of a layer.")
        heads = self.heads or _heads(channels, self.head_dim or channels)
        return SpatialTransformer(channels, heads, groups, self.token_width, self.depth)


class Head(ABC):
    """How the last level becomes a picture."""

    @abstractmethod
    def make(self, in_channels: int, given: int, channels: int, patch: int) -> nn.Module:
        """A layer of (last level, normalised [B, in_channels, h, w], what the U-Net was given [B, given, H, W]).

        It makes [B, channels, H, W], zero at the start, float32 at least, and has `channels` as an attribute.
        """


class ByPatch(Head):
    """One convolution, whose channels are the pixels of a patch; as published where a patch is a pixel."""

    def make(self, in_channels: int, given: int, channels: int, patch: int) -> nn.Module:
        return zeroed(OutputConv(in_channels, channels, patch))


@dataclass(frozen=True)
class ByPixel(Head):
    """Patches are unfolded to pixels, which two convolutions join with those that the U-Net was given.

    So pixels of a patch go together with their neighbours beyond it, and what has little noise need not pass through
    the channels of the levels. Ours; for patches of more than a pixel.

    Args:
        width: channels of a pixel.
    """

    width: int = 16

    def make(self, in_channels: int, given: int, channels: int, patch: int) -> nn.Module:
        if self.width < 1:
            raise ConfigError(f"ByPixel: width is {self.width}; it is the channels of a pixel, at least 1.")
        return PixelOutput(in_channels, given, channels, patch, self.width)


def _heads(channels: int, head_dim: int) -> int:
    if head_dim < 1 or channels % head_dim:
        raise ConfigError(
            f"head_dim is {head_dim}, which does not divide the {channels} channels of an attention layer; choose "
            "another, or other multipliers, or leave that level out of attention_at."
        )
    return channels // head_dim
