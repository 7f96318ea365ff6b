"""What a built `DualEncoder` is made of, as other libraries would have to be told."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import AttentionPool2d
from timm.models import ByobNet, VisionTransformer
from torch import nn

from mmfound.errors import ConfigError
from mmfound.models import DualEncoder, SiglipText, TextTransformer, TimmTower
from mmfound.nn.transformer import Activation


@dataclass(frozen=True)
class Vit:
    """CLIP's ViT: class token, norm before the blocks, projection of the class token."""

    width: int
    depth: int
    heads: int
    mlp_width: int
    patch_size: int
    image_size: int
    activation: Activation


@dataclass(frozen=True)
class ResNet:
    """CLIP's ResNet."""

    width: int
    depths: tuple[int, ...]
    image_size: int


@dataclass(frozen=True)
class Text:
    """A text tower; `siglip` where it is bidirectional and read off at its last position."""

    vocab_size: int
    context: int
    width: int
    depth: int
    heads: int
    mlp_width: int
    embed_dim: int
    activation: Activation
    siglip: bool


def image_structure(tower: nn.Module) -> Vit | ResNet | None:
    """Of CLIP's own image towers; None for another."""
    model = tower.model if isinstance(tower, TimmTower) else None
    if isinstance(model, VisionTransformer) and _is_clip_vit(model):
        return _vit(model)
    if isinstance(model, ByobNet) and isinstance(model.head, AttentionPool2d) and _has_clip_stem(model):
        stem: Any = model.stem
        positions = model.head.pos_embed.shape[0] - 1
        depths = tuple(len(stage) for stage in model.stages)  # pyright: ignore[reportArgumentType]
        return ResNet(stem.conv3.conv.out_channels, depths, 32 * round(positions**0.5))
    return None


def text_structure(encoder: DualEncoder, target: str) -> Text:
    """Of our transformers.

    Raises:
        ConfigError: for another text tower, which `target` cannot hold.
    """
    tower = encoder.text_tower
    if not isinstance(tower, (TextTransformer, SiglipText)):
        raise ConfigError(f"{target} has no text tower like {type(tower).__name__}; export it without --format")
    block: Any = tower.blocks[0]
    context, width = tower.positional_embedding.shape
    siglip = isinstance(tower, SiglipText)
    return Text(
        vocab_size=tower.token_embedding.num_embeddings,
        context=context,
        width=width,
        depth=len(tower.blocks),
        heads=block.attn.heads,
        mlp_width=block.mlp.c_fc.out_features,
        embed_dim=tower.head.out_features if isinstance(tower, SiglipText) else tower.text_projection.shape[1],
        activation=activation_of(block.mlp.activation),
        siglip=siglip,
    )


def activation_of(activation: nn.Module) -> Activation:
    """Which of ours a module computes, by its values.

    Raises:
        ConfigError: when it is none of them.
    """
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)
    known: dict[Activation, torch.Tensor] = {
        "quick_gelu": x * torch.sigmoid(1.702 * x),
        "gelu": F.gelu(x),
        "gelu_tanh": F.gelu(x, approximate="tanh"),
    }
    for name, values in known.items():
        if torch.allclose(activation(x.clone()), values, rtol=0, atol=1e-6):
            return name
    raise ConfigError(f"the activation {activation} is none that other libraries' CLIPs have: {', '.join(known)}")


def _is_clip_vit(model: Any) -> bool:
    plain = not isinstance(model.norm_pre, nn.Identity) and model.cls_token is not None and model.global_pool == "token"
    return plain and model.num_prefix_tokens == 1 and model.patch_embed.proj.bias is None and model.norm.eps == 1e-5


def _has_clip_stem(model: Any) -> bool:
    return all(hasattr(model.stem, f"conv{number}") for number in (1, 2, 3)) and model.head.cls_token is None


def _vit(model: Any) -> Vit:
    block, (patch_size, _) = model.blocks[0], model.patch_embed.patch_size
    return Vit(
        width=model.embed_dim,
        depth=len(model.blocks),
        heads=block.attn.num_heads,
        mlp_width=block.mlp.fc1.out_features,
        patch_size=patch_size,
        image_size=model.patch_embed.img_size[0],
        activation=activation_of(block.mlp.act),
    )
