"""Initial weights of CLIP's image towers as OpenAI's model.py draws them."""

from typing import Any

from timm.layers import AttentionPool2d, RotAttentionPool2d
from timm.models import ByobNet, VisionTransformer
from torch import nn


def has_attention_pool(model: nn.Module) -> bool:
    """Whether a timm model's head is attention pooling, as in CLIP's ResNets."""
    return isinstance(getattr(model, "head", None), (AttentionPool2d, RotAttentionPool2d))


def initialize_like_openai(model: nn.Module) -> None:
    """Draw the weights of a CLIP ViT or a CLIP ResNet anew; other timm models are left as they are."""
    if isinstance(model, VisionTransformer) and not isinstance(model.norm_pre, nn.Identity):
        _initialize_vit(model)
    elif isinstance(model, ByobNet) and isinstance(model.head, AttentionPool2d):
        _initialize_resnet(model)


def _initialize_vit(model: Any) -> None:
    scale = model.embed_dim**-0.5
    for parameter in (model.cls_token, model.pos_embed, model.head.weight):
        nn.init.normal_(parameter, std=scale)
    for block in model.blocks:  # torch's defaults for nn.MultiheadAttention and nn.Linear
        nn.init.xavier_uniform_(block.attn.qkv.weight)
        block.attn.proj.reset_parameters()
        nn.init.zeros_(block.attn.qkv.bias)
        nn.init.zeros_(block.attn.proj.bias)
        block.mlp.fc1.reset_parameters()
        block.mlp.fc2.reset_parameters()


def _initialize_resnet(model: Any) -> None:
    for module in model.modules():  # the last norm of each block stays at timm's zeros, which are OpenAI's too
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    pool = model.head
    scale = pool.in_features**-0.5
    nn.init.normal_(pool.pos_embed, std=scale)
    for linear in (pool.q, pool.k, pool.v, pool.proj):
        linear.reset_parameters()  # the biases' default
        nn.init.normal_(linear.weight, std=scale)
