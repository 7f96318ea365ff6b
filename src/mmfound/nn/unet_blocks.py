"""Residual blocks of U-Nets, and what changes their resolution.

Shape letters: B batch, C channels, H W picture, E width of the time embedding, L tokens, D width of the tokens.
"""

from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.errors import ConfigError

M = TypeVar("M", nn.Conv2d, nn.Linear)


class Context(NamedTuple):
    """What every layer of a U-Net is told beside its input.

    Attributes:
        embedding: [B, E] time embedding with the condition's vector, after its SiLU.
        tokens: [B, L, D] to attend to.
        mask: [B, L] bool, True on tokens to attend to; None for all.
    """

    embedding: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None


def zeroed(layer: M) -> M:
    """The layer with weights and bias of zero: what it ends adds nothing at the start."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class GroupNorm(nn.GroupNorm):
    """Computed in float32 at least, whatever dtype the input has; the output has the input's.

    Args:
        groups: that share a mean and variance.
        channels: C, a multiple of `groups`.
        eps: added to the variance.

    Raises:
        ConfigError: when `groups` does not divide `channels`.
    """

    def __init__(self, groups: int, channels: int, eps: float = 1e-5) -> None:
        if channels % groups:
            raise ConfigError(
                f"groups is {groups}, which does not divide the {channels} channels of a layer; set groups to a number "
                "that divides the U-Net's width."
            )
        super().__init__(groups, channels, eps)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.GroupNorm's own name
        if input.device.type == "cpu":  # whose kernel does so by itself, in one pass
            return super().forward(input)
        dtype = torch.promote_types(input.dtype, torch.float32)
        weight, bias = self.weight.to(dtype), self.bias.to(dtype)
        return F.group_norm(input.to(dtype), self.num_groups, weight, bias, self.eps).to(input.dtype)


class ScaleShiftNorm(nn.Module):
    """norm(x) (1 + scale) + shift, both from the embedding (Dhariwal & Nichol 2021, arXiv:2105.05233, section 3.1)."""

    def __init__(self, groups: int, channels: int, embed_dim: int) -> None:
        super().__init__()
        self.embed = nn.Linear(embed_dim, 2 * channels)
        self.norm = GroupNorm(groups, channels)

    def forward(self, x_BCHW: Tensor, embedding_BE: Tensor) -> Tensor:
        scale, shift = self.embed(embedding_BE)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, self.norm(x_BCHW), 1 + scale)


class AdditiveNorm(nn.Module):
    """norm(x + bias) with a bias from the embedding (Ho et al. 2020, arXiv:2006.11239, appendix B)."""

    def __init__(self, groups: int, channels: int, embed_dim: int) -> None:
        super().__init__()
        self.embed = nn.Linear(embed_dim, channels)
        self.norm = GroupNorm(groups, channels)

    def forward(self, x_BCHW: Tensor, embedding_BE: Tensor) -> Tensor:
        return self.norm(x_BCHW + self.embed(embedding_BE)[:, :, None, None])


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution; norm with the embedding, SiLU, dropout, convolution of zeros; added to the input.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        norm: the second norm, (x, embedding) -> x.
        groups: of the first norm.
        dropout: in front of the last convolution.
        resample: of the input and, between its SiLU and its convolution, of the branch.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: nn.Module,
        groups: int,
        dropout: float = 0.0,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm_1 = GroupNorm(groups, in_channels)
        self.resample = resample or nn.Identity()
        self.conv_1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm_2 = norm
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x_BCHW: Tensor, context: Context) -> Tensor:
        h_BCHW = self.conv_1(self.resample(F.silu(self.norm_1(x_BCHW))))
        h_BCHW = F.silu(self.norm_2(h_BCHW, context.embedding))
        return self.skip(self.resample(x_BCHW)) + self.conv_2(self.dropout(h_BCHW))


class Halve(nn.AvgPool2d):
    """Mean of each 2 x 2 pixels."""

    def __init__(self) -> None:
        super().__init__(2)


class Double(nn.Module):
    """Each pixel four times."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest")


class ConvHalve(nn.Conv2d):
    """A convolution that moves by two pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)

    def forward(self, input: Tensor, context: Context | None = None) -> Tensor:  # noqa: A002 - nn.Conv2d's own name
        return super().forward(input)


class ConvDouble(nn.Conv2d):
    """Each pixel four times, and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, input: Tensor, context: Context | None = None) -> Tensor:  # noqa: A002 - nn.Conv2d's own name
        return super().forward(F.interpolate(input, scale_factor=2.0, mode="nearest"))
