"""Weights of transformers' CLIPModel as weights of a `DualEncoder`."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_NAMES = [
    (r"^vision_model\.embeddings\.class_embedding$", "image_tower.model.cls_token"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "image_tower.model.patch_embed.proj."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "image_tower.model.pos_embed"),
    (r"^vision_model\.pre_layrnorm\.", "image_tower.model.norm_pre."),
    (r"^vision_model\.post_layernorm\.", "image_tower.model.norm."),
    (r"^visual_projection\.weight$", "image_tower.model.head.weight"),
    (r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.", r"image_tower.model.blocks.\1.norm\2."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"image_tower.model.blocks.\1.attn.proj."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.qkv\.", r"image_tower.model.blocks.\1.attn.qkv."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.mlp\.", r"image_tower.model.blocks.\1.mlp."),
    (r"^text_model\.embeddings\.token_embedding\.", "text_tower.token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight$", "text_tower.positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "text_tower.ln_final."),
    (r"^text_projection\.weight$", "text_tower.text_projection"),
    (r"^text_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.", r"text_tower.blocks.\1.ln_\2."),
    (r"^text_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"text_tower.blocks.\1.attn.out_proj."),
    (r"^text_model\.encoder\.layers\.(\d+)\.self_attn\.qkv\.", r"text_tower.blocks.\1.attn.in_proj."),
    (r"^text_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.", r"text_tower.blocks.\1.mlp.c_fc."),
    (r"^text_model\.encoder\.layers\.(\d+)\.mlp\.fc2\.", r"text_tower.blocks.\1.mlp.c_proj."),
]


def from_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a CLIPModel for a `DualEncoder` of a `TimmTower` and a `TextTransformer`.

    Args:
        weights: state dict of `transformers.CLIPModel`.

    Returns:
        State dict of a `DualEncoder`.
    """
    return {_name(key): _shape(key, value) for key, value in _fuse_qkv(weights).items() if "position_ids" not in key}


def _fuse_qkv(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    fused = {}
    for key, value in weights.items():
        match = re.match(r"(.*\.self_attn\.)([qkv])_proj\.(weight|bias)$", key)
        if match is None:
            fused[key] = value
        elif match[2] == "q":
            parts = [weights[f"{match[1]}{part}_proj.{match[3]}"] for part in "qkv"]
            fused[f"{match[1]}qkv.{match[3]}"] = torch.cat(parts)
    return fused


def _name(key: str) -> str:
    for pattern, replacement in _NAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _shape(key: str, value: Tensor) -> Tensor:
    if key in ("logit_scale", "logit_bias"):
        return value.reshape(1)
    if key == "text_projection.weight":
        return value.T
    if key == "vision_model.embeddings.class_embedding":
        return value[None, None]
    return value[None] if key == "vision_model.embeddings.position_embedding.weight" else value
