"""Attention within the pictures of a U-Net, and from them to tokens.

Shape letters: B batch, C channels, H W picture, N its pixels, L tokens, D width of the tokens, K heads, d width of one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.nn.unet_blocks import Context, GroupNorm, zeroed


def _split(x_BND: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """[B, N, parts C] -> `parts` of [B, K, N, d], views."""
    return x_BND.unflatten(2, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _join(x_BKNd: Tensor) -> Tensor:
    return x_BKNd.transpose(1, 2).flatten(2)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """[B, K, N, d] of what the queries find. The CPU's kernel takes three times as long for gradients in bfloat16."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, mask)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), mask).to(query.dtype)


class JointAttention(nn.Module):
    """Pixels attend to all pixels and to the tokens in one softmax; added to the input.

    Source: Nichol et al. 2021, arXiv:2112.10741, section 2.1: the tokens are projected to further keys and values of
    each layer.

    Args:
        channels: C, a multiple of `heads`.
        heads: K.
        groups: of the norm.
        token_width: D; without it there are no tokens.
    """

    def __init__(self, channels: int, heads: int, groups: int, token_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(groups, channels)
        self.in_proj = nn.Linear(channels, 3 * channels)
        self.token_proj = None if token_width is None else nn.Linear(token_width, 2 * channels)
        self.out_proj = zeroed(nn.Linear(channels, channels))

    def forward(self, x_BCHW: Tensor, context: Context) -> Tensor:
        _, C, H, W = x_BCHW.shape
        qkv = self.in_proj(self.norm(x_BCHW).flatten(2).transpose(1, 2))
        query, pixels = qkv.split((C, 2 * C), dim=2)
        mask = None
        if self.token_proj is not None:
            assert context.tokens is not None
            pixels = torch.cat([self.token_proj(context.tokens), pixels], dim=1)
            if context.mask is not None:
                mask = F.pad(context.mask, (0, H * W), value=True)[:, None, None]
        (query,), (key, value) = _split(query, 1, self.heads), _split(pixels, 2, self.heads)
        attended = self.out_proj(_join(_attend(query, key, value, mask)))
        return x_BCHW + attended.transpose(1, 2).unflatten(2, (H, W))


class CrossAttention(nn.Module):
    """From pixels to tokens; rows without any token to attend to get zeros in front of the last projection.

    Args:
        channels: C, a multiple of `heads`.
        heads: K.
        token_width: D.
    """

    def __init__(self, channels: int, heads: int, token_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_proj = nn.Linear(channels, channels, bias=False)
        self.token_proj = nn.Linear(token_width, 2 * channels, bias=False)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x_BNC: Tensor, tokens_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
        (query,) = _split(self.query_proj(x_BNC), 1, self.heads)
        key, value = _split(self.token_proj(tokens_BLD), 2, self.heads)
        if mask_BL is None:
            return self.out_proj(_join(_attend(query, key, value)))
        # Not every kernel gives zeros where all is masked.
        any_B1 = mask_BL.any(dim=1, keepdim=True)
        mask = (mask_BL | ~any_B1)[:, None, None]
        attended = _join(_attend(query, key, value, mask))
        return self.out_proj(attended * any_B1[:, :, None])


class TransformerLayer(nn.Module):
    """Attention among pixels, attention to tokens, a gated MLP; each on normalised input and added to it."""

    def __init__(self, channels: int, heads: int, token_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(channels)
        self.in_proj = nn.Linear(channels, 3 * channels, bias=False)
        self.out_proj = nn.Linear(channels, channels)
        self.ln_2 = nn.LayerNorm(channels)
        self.cross = CrossAttention(channels, heads, token_width)
        self.ln_3 = nn.LayerNorm(channels)
        self.gated = nn.Linear(channels, 8 * channels)
        self.c_proj = nn.Linear(4 * channels, channels)

    def forward(self, x_BNC: Tensor, tokens_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
        query, key, value = _split(self.in_proj(self.ln_1(x_BNC)), 3, self.heads)
        x_BNC = x_BNC + self.out_proj(_join(_attend(query, key, value)))
        x_BNC = x_BNC + self.cross(self.ln_2(x_BNC), tokens_BLD, mask_BL)
        hidden, gate = self.gated(self.ln_3(x_BNC)).chunk(2, dim=2)
        return x_BNC + self.c_proj(hidden * F.gelu(gate))


class SpatialTransformer(nn.Module):
    """Transformer layers over the pixels, between two projections of which the last is zero at the start.

    Source: Rombach et al. 2022, arXiv:2112.10752, section 3.3 and appendix E.2.1.

    Args:
        channels: C, a multiple of `heads`.
        heads: K.
        groups: of the norm.
        token_width: D.
        depth: number of layers.
    """

    def __init__(self, channels: int, heads: int, groups: int, token_width: int, depth: int = 1) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.in_proj = nn.Linear(channels, channels)
        self.layers = nn.Sequential(*(TransformerLayer(channels, heads, token_width) for _ in range(depth)))
        self.out_proj = zeroed(nn.Linear(channels, channels))

    def forward(self, x_BCHW: Tensor, context: Context) -> Tensor:
        assert context.tokens is not None
        h_BNC = self.in_proj(self.norm(x_BCHW).flatten(2).transpose(1, 2))
        for layer in self.layers:
            h_BNC = layer(h_BNC, context.tokens, context.mask)
        return x_BCHW + self.out_proj(h_BNC).transpose(1, 2).unflatten(2, x_BCHW.shape[2:])
