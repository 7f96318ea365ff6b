"""The U-Net of diffusion systems.

Shape letters: B batch, C channels, H W picture, E width of the time embedding, L tokens, D width of the tokens.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmfound.errors import ConfigError
from mmfound.models.unet_layout import Ways
from mmfound.models.unet_parts import Attention, ByPatch, Head, InBlocks, Resample, Residual, ScaleShift
from mmfound.nn.time_embedding import sinusoids
from mmfound.nn.unet_blocks import Context, GroupNorm

if TYPE_CHECKING:
    from mmfound.diffusion.conditioning.condition import Condition  # whose parts may hold models


class UNet(nn.Module):
    """Denoises pictures at falling and then rising resolution, with links across.

    Level i has `width * multipliers[i]` channels and half the side of the level before. On the way down it has `blocks`
    residual blocks, on the way up one more, each followed by attention where its factor is in `attention_at`; between
    the two ways are a block, attention, and a block. The condition's channels join x in front of the first convolution,
    its vector is added to the time embedding, its tokens are attended to. A fresh network's output is zero.

    Source: Ho et al. 2020, arXiv:2006.11239, appendix B; Dhariwal & Nichol 2021, arXiv:2105.05233, section 3; attention
    to tokens as in `unet_parts`.

    Args:
        in_channels: of x and the condition's `concat` together.
        out_channels: of the output; twice those of x with a learned variance.
        width: C of the first level. The time embedding has 4 times as many, E.
        multipliers: of `width`, one for each level.
        blocks: residual blocks of a level.
        attention_at: factors of the side, such as 2 and 4, at which blocks are followed by attention.
        residual: the kind of residual block; `ScaleShift()` by default.
        resample: how levels lead to each other; `InBlocks()` by default.
        attention: the kind of attention; none anywhere, the middle included, by default.
        recompute: keep only the inputs of each block for the backward pass and compute the rest again.
        patch: side of the squares of pixels that the first level takes as one, each as its own channels: 2 saves three
            quarters of the work where pictures are small and simple. Factors count from the pixels.
        head: how the last level becomes a picture; `ByPatch()` by default.

    Raises:
        ConfigError: when sizes do not fit each other.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        attention_at: Sequence[int] = (),
        residual: Residual | None = None,
        resample: Resample | None = None,
        attention: Attention | None = None,
        recompute: bool = False,
        patch: int = 1,
        head: Head | None = None,
    ) -> None:
        super().__init__()
        factors = _factors(width, multipliers, patch)
        _check_attention(attention_at, factors, attention)
        self.width, self.embed_dim, self.factor = width, 4 * width, factors[-1]
        self.token_width = attention.token_width if attention else None
        self.recompute = recompute
        make = Ways(
            self.embed_dim,
            residual or ScaleShift(),
            resample or InBlocks(),
            attention,
            [factor in attention_at for factor in factors],
        )
        channels = [width * multiplier for multiplier in multipliers]
        self.time = nn.Sequential(
            nn.Linear(width, self.embed_dim), nn.SiLU(), nn.Linear(self.embed_dim, self.embed_dim)
        )
        self.stem = nn.Conv2d(in_channels, width, 3 * patch, stride=patch, padding=patch)
        self.down, links = make.down(width, channels, blocks)
        self.middle = make.middle(channels[-1])
        self.up = make.up(channels, blocks, links)
        self.norm = GroupNorm(make.residual.groups, channels[0])
        self.out = (head or ByPatch()).make(channels[0], in_channels, out_channels, patch)

    def forward(self, x: Tensor, time: Tensor, condition: "Condition") -> Tensor:
        """Denoise.

        Args:
            x: [B, C, H, W] noised pictures.
            time: [] or [B], as released weights count it, 0 to 999.
            condition: with tokens exactly if the attention attends to some.

        Returns:
            [B, out_channels, H, W], float32 at least.

        Raises:
            ConfigError: when picture or condition do not fit the network.
        """
        self._check_fit(x, condition)
        if condition.concat is not None:
            x = torch.cat([x, condition.concat.to(x.dtype)], dim=1)
        context = self._context(time.expand(len(x)), condition)
        x = _laid_out(x.to(self.stem.weight.dtype))
        h_BCHW = self.stem(x)
        links = [h_BCHW]
        for layers in self.down:
            h_BCHW = self._run(layers, h_BCHW, context)
            links.append(h_BCHW)
        h_BCHW = self._run(self.middle, h_BCHW, context)
        for layers in self.up:
            h_BCHW = self._run(layers, torch.cat([h_BCHW, links.pop()], dim=1), context)
        return self.out(F.silu(self.norm(h_BCHW)), x).contiguous()

    def _context(self, time_B: Tensor, condition: "Condition") -> Context:
        dtype = self.stem.weight.dtype
        embedding_BE = self.time(sinusoids(time_B, self.width).to(dtype))
        if condition.vector is not None:
            embedding_BE = embedding_BE + condition.vector
        tokens = None if condition.tokens is None else condition.tokens.to(dtype)
        return Context(F.silu(embedding_BE).to(dtype), tokens, condition.mask)

    def _run(self, layers: nn.Module, h_BCHW: Tensor, context: Context) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(layers, h_BCHW, context, use_reentrant=False)  # pyright: ignore[reportReturnType]
        return layers(h_BCHW, context)

    def _check_fit(self, x: Tensor, condition: "Condition") -> None:
        _, channels, height, width = x.shape
        if height % self.factor or width % self.factor:
            raise ConfigError(
                f"the U-Net halves pictures down to 1/{self.factor} of their side, and {self.factor} does not divide "
                f"{height} x {width} pixels; choose another size, or fewer multipliers."
            )
        added = 0 if condition.concat is None else condition.concat.shape[1]
        if channels + added != self.stem.in_channels:
            raise ConfigError(
                f"the U-Net's in_channels is {self.stem.in_channels}, and x has {channels} channels and the condition "
                f"adds {added}; set it to {channels + added}, or see which conditioner is missing."
            )
        if condition.vector is not None and condition.vector.shape[-1] != self.embed_dim:
            raise ConfigError(
                f"the condition's vector is {condition.vector.shape[-1]} wide, and the U-Net's time embedding, 4 times "
                f"its width, {self.embed_dim}; set the conditioner's to that."
            )
        given = None if condition.tokens is None else condition.tokens.shape[-1]
        if given == self.token_width:
            return
        if self.token_width is None:
            raise ConfigError(
                f"the condition has tokens of width {given}, and this U-Net attends to none; set token_width of its "
                "attention to that, or take the conditioner away."
            )
        found = "has none" if given is None else f"has some of width {given}"
        raise ConfigError(
            f"the U-Net attends to tokens of width {self.token_width}, and the condition {found}; see its "
            "conditioners, or set token_width of its attention."
        )


def _laid_out(x: Tensor) -> Tensor:
    """In the layout that is fastest where that was measured, on the CPU: a tenth of a step, either way."""
    if x.device.type != "cpu":
        return x
    is_float = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return x.contiguous(memory_format=torch.channels_last if is_float else torch.contiguous_format)


def _factors(width: int, multipliers: Sequence[int], patch: int) -> list[int]:
    """By how much each level has fewer pixels a side than the picture."""
    if width % 2 or width < 2:
        raise ConfigError(f"UNet: width is {width}; it has to be even, for cosines and sines of the time.")
    if patch < 1:
        raise ConfigError(f"UNet: patch is {patch}; it is the side of a square in pixels, at least 1.")
    if any(multiplier < 1 for multiplier in multipliers):
        raise ConfigError(f"UNet: multipliers are {list(multipliers)}; each is a factor on the width, at least 1.")
    if not multipliers:
        raise ConfigError("UNet: multipliers is empty; it has one number for each level.")
    return [patch * 2**level for level in range(len(multipliers))]


def _check_attention(attention_at: Sequence[int], factors: Sequence[int], attention: Attention | None) -> None:
    unknown = [factor for factor in attention_at if factor not in factors]
    if unknown:
        raise ConfigError(f"UNet: attention_at has {unknown[0]}, and the levels' factors are {list(factors)}.")
    if attention_at and attention is None:
        raise ConfigError(f"UNet: attention_at is {list(attention_at)}, and no kind of attention is set.")
