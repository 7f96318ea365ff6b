"""Weights under OpenAI's names, which open_clip shares, as weights of a `DualEncoder`."""

import re
from collections.abc import Mapping

from torch import Tensor

_NOT_WEIGHTS = {"input_resolution", "context_length", "vocab_size", "attn_mask"}

_BLOCK = [
    (r"attn\.in_proj_(weight|bias)$", r"attn.in_proj.\1"),
]
_VIT = [
    (r"^conv1\.", "patch_embed.proj."),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^proj$", "head.weight"),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
]
_STAGE = {"1": "conv1_1x1", "2": "conv2_kxk", "3": "conv3_1x1"}


def from_openai(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a CLIP model for a `DualEncoder` of a `TimmTower` and a `TextTransformer`.

    Args:
        weights: OpenAI's or open_clip's state dict; ViT and ResNet image towers.

    Returns:
        State dict of a `DualEncoder`; the tensors are not copied.
    """
    vit = "visual.class_embedding" in weights
    renamed: dict[str, Tensor] = {}
    for key, value in weights.items():
        if key in _NOT_WEIGHTS:
            continue
        if key in ("logit_scale", "logit_bias"):
            renamed[key] = value.reshape(1)
        elif key.startswith("visual."):
            name = key.removeprefix("visual.")
            if vit:
                renamed["image_tower.model." + _substitute(name, _VIT)] = _vit_shape(name, value)
            else:
                renamed["image_tower.model." + _resnet_name(name)] = value
        else:
            renamed["text_tower." + _substitute(key.replace("transformer.resblocks.", "blocks."), _BLOCK)] = value
    return renamed


def _substitute(name: str, rules: list[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _vit_shape(name: str, value: Tensor) -> Tensor:
    if name == "proj":
        return value.T
    if name == "class_embedding":
        return value[None, None]
    return value[None] if name == "positional_embedding" else value


def _resnet_name(name: str) -> str:
    if match := re.match(r"(conv|bn)(\d)\.(.*)", name):
        kind, number, rest = match.groups()
        return f"stem.conv{number}.{kind}.{rest}"
    if match := re.match(r"layer(\d)\.(\d+)\.downsample\.([01])\.(.*)", name):
        stage, block, position, rest = match.groups()
        return f"stages.{int(stage) - 1}.{block}.shortcut.conv.{('conv', 'bn')[int(position)]}.{rest}"
    if match := re.match(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(.*)", name):
        stage, block, kind, number, rest = match.groups()
        return f"stages.{int(stage) - 1}.{block}.{_STAGE[number]}.{kind}.{rest}"
    name = re.sub(r"^attnpool\.positional_embedding$", "head.pos_embed", name)
    return re.sub(r"^attnpool\.([qkv]|c)_proj\.", lambda m: f"head.{m[1].replace('c', 'proj')}.", name)
