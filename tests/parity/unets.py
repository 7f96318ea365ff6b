"""U-Nets of diffusers in both styles, ours like them, and the names that GLIDE's weights were released under."""

import re
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from mmfound.models import UNet
from mmfound.models.unet_parts import Additive, ByConvolution, Joint, ScaleShift, Spatial

SIZES: dict[str, Any] = {"width": 32, "multipliers": [1, 2, 3], "blocks": 2, "attention_at": [2, 4]}
_THEIRS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 6,
    "block_out_channels": (32, 64, 96),
    "layers_per_block": 2,
    "cross_attention_dim": 32,
    "norm_eps": 1e-5,
}
_GLIDE: dict[str, Any] = {
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "attention_head_dim": 16,
    "class_embed_type": "identity",
    "resnet_time_scale_shift": "scale_shift",
}


def drawn(module: nn.Module) -> nn.Module:
    """All weights anew, those that are zero at the start too."""
    torch.manual_seed(0)
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, std=0.05)
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1
    return module.eval()


def their_adm(**sizes: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(**{**_THEIRS, **_levels([False, True, True]), **_GLIDE, **sizes})


def released_size(upsampler: bool, **sizes: Any) -> UNet2DConditionModel:
    """The U-Nets of 64 pixels and from 64 to 256 pixels."""
    levels = [False, False, False, True, True, True] if upsampler else [False, True, True, True]
    multipliers = [1, 1, 2, 2, 4, 4] if upsampler else [1, 2, 3, 4]
    return their_adm(
        **_levels(levels),
        block_out_channels=tuple(192 * multiplier for multiplier in multipliers),
        layers_per_block=2 if upsampler else 3,
        cross_attention_dim=512,
        attention_head_dim=64,
        **sizes,
    )


def _levels(attends: list[bool]) -> dict[str, Any]:
    down = {False: "ResnetDownsampleBlock2D", True: "SimpleCrossAttnDownBlock2D"}
    up = {False: "ResnetUpsampleBlock2D", True: "SimpleCrossAttnUpBlock2D"}
    return {
        "down_block_types": tuple(down[level] for level in attends),
        "up_block_types": tuple(up[level] for level in reversed(attends)),
    }


def their_ldm(**sizes: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **_THEIRS,
        **sizes,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
        up_block_types=(*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
        attention_head_dim=4,  # the number of heads, in spite of its name
    )


def our_adm() -> UNet:
    return UNet(3, 6, **SIZES, residual=ScaleShift(groups=8), attention=Joint(32, head_dim=16)).eval()


def our_ldm() -> UNet:
    style: dict[str, Any] = {
        "residual": Additive(groups=8),
        "resample": ByConvolution(),
        "attention": Spatial(32, heads=4),
    }
    return UNet(3, 6, **SIZES, **style).eval()


def as_released(theirs: UNet2DConditionModel, head_dim: int = 16) -> dict[str, Tensor]:
    """The weights of a U-Net like GLIDE's in OpenAI's layout: names, and per head [q | k | v] and [k | v]."""
    state, released = theirs.state_dict(), {}
    for name, value in state.items():
        if re.search(r"\.(to_[qkv]|add_[kv]_proj)\.", name):
            continue
        value = value[..., None] if re.search(r"to_out\.0\.weight", name) else value
        released[_released(name, state)] = value
    for name in [name for name in state if re.search(r"\.to_q\.", name)]:
        for ours, parts in (("qkv", ["to_q", "to_k", "to_v"]), ("encoder_kv", ["add_k_proj", "add_v_proj"])):
            held = [state[name.replace("to_q", part)] for part in parts]
            rows = [part[start : start + head_dim] for start in range(0, len(held[0]), head_dim) for part in held]
            value = torch.cat(rows)
            place = _released(name.replace("to_q", ours), state)
            released[place] = value[..., None] if value.dim() == 2 else value
    return released


def _released(name: str, state: dict[str, Tensor]) -> str:
    blocks = sum(f"down_blocks.0.resnets.{number}.conv1.weight" in state for number in range(9))
    for theirs, ours in {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }.items():
        if name.startswith(theirs):
            return name.replace(theirs, ours)
    for theirs, ours in {
        ".norm1.": ".in_layers.0.",
        ".conv1.": ".in_layers.2.",
        ".time_emb_proj.": ".emb_layers.1.",
        ".norm2.": ".out_layers.0.",
        ".conv2.": ".out_layers.3.",
        ".conv_shortcut.": ".skip_connection.",
        ".group_norm.": ".norm.",
        ".to_out.0.": ".proj_out.",
        "mid_block.resnets.0.": "middle_block.0.",
        "mid_block.attentions.0.": "middle_block.1.",
        "mid_block.resnets.1.": "middle_block.2.",
    }.items():
        name = name.replace(theirs, ours)
    if match := re.match(r"down_blocks\.(\d)\.(resnets|attentions|downsamplers)\.(\d)(.*)", name):
        level, kind, number, rest = match.groups()
        step = 1 + (blocks + 1) * int(level) + (blocks if kind == "downsamplers" else int(number))
        return f"input_blocks.{step}.{int(kind == 'attentions')}{rest}"
    if match := re.match(r"up_blocks\.(\d)\.(resnets|attentions|upsamplers)\.(\d)(.*)", name):
        level, kind, number, rest = match.groups()
        step = (blocks + 1) * int(level) + (blocks if kind == "upsamplers" else int(number))
        attends = f"up_blocks.{level}.attentions.0.to_q.weight" in state
        place = {"resnets": 0, "attentions": 1, "upsamplers": 1 + attends}[kind]
        return f"output_blocks.{step}.{place}{rest}"
    return name
