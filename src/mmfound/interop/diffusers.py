"""Weights of diffusers' `UNet2DConditionModel` as weights of a `UNet`."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_ENDS = {
    "conv_in": "stem",
    "time_embedding.linear_1": "time.0",
    "time_embedding.linear_2": "time.2",
    "conv_norm_out": "norm",
    "conv_out": "out",
}
_LAYER = [
    # Residual blocks; where time is added its projection belongs to the norm behind it all the same.
    (r"^norm1\.", "norm_1."),
    (r"^conv1\.", "conv_1."),
    (r"^time_emb_proj\.", "norm_2.embed."),
    (r"^norm2\.", "norm_2.norm."),
    (r"^conv2\.", "conv_2."),
    (r"^conv_shortcut\.", "skip."),
    (r"^conv\.", ""),
    # Attention with added keys and values.
    (r"^group_norm\.", "norm."),
    (r"^to_out\.0\.", "out_proj."),
    (r"^to_([qkv])\.", r"in_proj.\1."),
    (r"^add_([kv])_proj\.", r"token_proj.\1."),
    # Spatial transformers.
    (r"^proj_(in|out)\.", r"\1_proj."),
    (r"^transformer_blocks\.(\d+)\.", r"layers.\1."),
    (r"^(layers\.\d+\.)norm([123])\.", r"\1ln_\2."),
    (r"^(layers\.\d+\.)attn1\.to_([qkv])\.", r"\1in_proj.\2."),
    (r"^(layers\.\d+\.)attn1\.to_out\.0\.", r"\1out_proj."),
    (r"^(layers\.\d+\.)attn2\.to_q\.", r"\1cross.query_proj."),
    (r"^(layers\.\d+\.)attn2\.to_([kv])\.", r"\1cross.token_proj.\2."),
    (r"^(layers\.\d+\.)attn2\.to_out\.0\.", r"\1cross.out_proj."),
    (r"^(layers\.\d+\.)ff\.net\.0\.proj\.", r"\1gated."),
    (r"^(layers\.\d+\.)ff\.net\.2\.", r"\1c_proj."),
]
_PART = re.compile(r"(.*_proj)\.([qkv])\.(weight|bias)")
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)")
_MIDDLE = re.compile(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)")


def from_diffusers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a U-Net.

    Args:
        weights: state dict of a `UNet2DConditionModel`, with resampling within residual blocks and added keys and
            values (Karlo's decoder) or convolutions and spatial transformers (Stable Diffusion 1 and 2); names of
            other parts stay.

    Returns:
        State dict of a `UNet`; queries, keys and values in one tensor, the rest not copied.
    """
    renamed: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        ours = _name(name, weights)
        value = value.flatten(1) if re.search(r"(in|out)_proj\.weight$", ours) else value
        if match := _PART.fullmatch(ours):
            parts.setdefault(f"{match[1]}.{match[3]}", {})[match[2]] = value
        else:
            renamed[ours] = value
    return renamed | {
        name: torch.cat([held[key] for key in sorted(held, key="qkv".index)]) for name, held in parts.items()
    }


def _name(name: str, weights: Mapping[str, Tensor]) -> str:
    for theirs, ours in _ENDS.items():
        if name.startswith(f"{theirs}."):
            return name.replace(theirs, ours, 1)
    if match := _MIDDLE.fullmatch(name):
        kind, number, rest = match.groups()
        place = 1 if kind == "attentions" else 2 * int(number)
        return f"middle.{place}.{_layer(rest)}"
    if match := _BLOCK.fullmatch(name):
        way, level, kind, number, rest = match.groups()
        return _step(way, int(level), kind, int(number), weights) + _layer(rest)
    return name


def _step(way: str, level: int, kind: str, number: int, weights: Mapping[str, Tensor]) -> str:
    """Which step of a way a layer belongs to, and its place in it."""
    prefix = f"{way}_blocks.{level}"
    blocks = len({name.split(".")[3] for name in weights if name.startswith(f"{way}_blocks.0.resnets.")})
    attends = any(name.startswith(f"{prefix}.attentions.") for name in weights)
    per_level = blocks + 1 if way == "down" else blocks
    step, place = level * per_level + number, int(kind == "attentions")
    if kind == "downsamplers":
        step = level * per_level + blocks
    elif kind == "upsamplers":
        step, place = level * per_level + blocks - 1, 1 + attends
    return f"{way}.{step}.{place}."


def _layer(name: str) -> str:
    for pattern, replacement in _LAYER:
        name = re.sub(pattern, replacement, name)
    return name
