"""Whole networks."""

from mmfound.models.cbow import Cbow
from mmfound.models.clip_resnet import ClipResNet
from mmfound.models.conv_tower import ConvTower
from mmfound.models.dual_encoder import DualEncoder
from mmfound.models.glide_text import GlideText
from mmfound.models.noised_tower import NoisedTower
from mmfound.models.siglip_text import SiglipText
from mmfound.models.text_transformer import TextTransformer
from mmfound.models.timed_conv import TimedConv
from mmfound.models.timed_vit import TimedViT
from mmfound.models.timm_tower import TimmTower
from mmfound.models.unet import UNet

__all__ = [
    "Cbow",
    "ClipResNet",
    "ConvTower",
    "DualEncoder",
    "GlideText",
    "NoisedTower",
    "SiglipText",
    "TextTransformer",
    "TimedConv",
    "TimedViT",
    "TimmTower",
    "UNet",
]
