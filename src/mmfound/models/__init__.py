"""Whole networks."""

from mmfound.models.cbow import Cbow
from mmfound.models.conv_tower import ConvTower
from mmfound.models.dual_encoder import DualEncoder
from mmfound.models.text_transformer import TextTransformer
from mmfound.models.timm_tower import TimmTower

__all__ = ["Cbow", "ConvTower", "DualEncoder", "TextTransformer", "TimmTower"]
