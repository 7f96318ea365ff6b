"""Blocks with no idea of a task."""

from mmfound.nn.attention import SelfAttention
from mmfound.nn.pixels import CLIP_MEAN, CLIP_STD, NormalizePixels
from mmfound.nn.transformer import Block, Mlp, QuickGelu

__all__ = ["CLIP_MEAN", "CLIP_STD", "Block", "Mlp", "NormalizePixels", "QuickGelu", "SelfAttention"]
