"""The noised CLIP that was released with GLIDE: a file for each tower, `clip_image_enc.pt` and `clip_text_enc.pt`.

Names, shapes and what the weights do not say (heads 64 wide, the exact GELU, a temperature of 1 / 100 that was not
trained, the cosine schedule of 1000 steps) are those of the code that was published with them.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmfound.errors import ConfigError
from mmfound.interop.facts import Facts, Said, settle
from mmfound.interop.files import TOWERS

IMAGE, TEXT = TOWERS.values()
_HEAD_WIDTH = 64
_LOGIT_SCALE = 100.0

_BLOCK = {
    r"f_attn\.ln\.": "ln_1.",
    r"f_attn\.f_c\.": "attn.out_proj.",
    r"f_mlp\.ln\.": "ln_2.",
    r"f_mlp\.f_1\.": "mlp.c_fc.",
    r"f_mlp\.f_2\.": "mlp.c_proj.",
}
_ENDS = {
    f"{IMAGE}blocks.input.patch_proj": "image_tower.tower.patches.weight",
    f"{IMAGE}blocks.input.w_t": "image_tower.tower.time.weight",
    f"{IMAGE}blocks.input.w_pos": "image_tower.tower.positions",
    f"{IMAGE}blocks.input.ln.": "image_tower.tower.ln_pre.",
    f"{IMAGE}blocks.output.ln.": "image_tower.tower.ln_post.",
    f"{IMAGE}blocks.output.f.w": "image_tower.tower.head.weight",
    f"{TEXT}blocks.input.w_voc": "text_tower.token_embedding.weight",
    f"{TEXT}blocks.input.w_pos": "text_tower.positional_embedding",
    f"{TEXT}blocks.output.ln.": "text_tower.ln_final.",
    f"{TEXT}blocks.output.f.w": "text_tower.text_projection",
}


def is_glide_clip(names: Mapping[str, Any]) -> bool:
    """Whether weights have the names of both towers."""
    return f"{IMAGE}blocks.input.w_t" in names and f"{TEXT}blocks.input.w_voc" in names


def from_glide_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of both files for a `DualEncoder` of a `NoisedTower` and a `TextTransformer`.

    Queries, keys and values are joined; keys have no bias there, and any bias of theirs cancels in the softmax, so it
    is zero here.

    Args:
        weights: both state dicts, their names behind `IMAGE` and `TEXT`.

    Returns:
        State dict of a `DualEncoder`; what is not known keeps its name.
    """
    renamed: dict[str, Tensor] = {"logit_scale": torch.tensor([math.log(_LOGIT_SCALE)])}
    joined: dict[str, dict[str, Tensor]] = {}
    for name, value in weights.items():
        if match := re.fullmatch(r"(image|text)_enc\.blocks\.block_(\d+)\.(.+)", name):
            block = f"{_tower(match[1])}.blocks.{match[2]}."
            if part := re.fullmatch(r"f_attn\.(f_[qkv]\.[wb])", match[3]):
                joined.setdefault(block, {})[part[1]] = value
            else:
                renamed[block + _in_block(match[3])] = value
        else:
            renamed[_at_end(name)] = value.T if name == f"{TEXT}blocks.output.f.w" else value
    for block, parts in joined.items():
        renamed |= _joined(block, parts)
    return renamed


def describe_glide_clip(state: Mapping[str, Tensor], facts: Facts, said: Said, path: Any) -> dict[str, Any]:
    """class_path, init_args and image of renamed weights; only their shapes are looked at.

    Raises:
        ConfigError: when something was said that does not fit them.
    """
    width, _, patch_size, _ = state["image_tower.tower.patches.weight"].shape
    cells = state["image_tower.tower.positions"].shape[0] - 1
    image_size = patch_size * math.isqrt(cells)
    if said.image_size not in (None, image_size):
        raise ConfigError(f"{path} takes pictures of {image_size} pixels; leave image_size {said.image_size} out")
    vocab_size, text_width = state["text_tower.token_embedding.weight"].shape
    activation = settle("activation", said.activation, "gelu", path, said.override)
    tower = {
        "image_size": image_size,
        "patch_size": patch_size,
        "width": width,
        "depth": _depth(state, "image_tower.tower"),
        "heads": settle("image_heads", said.image_heads, width // _HEAD_WIDTH, path, said.override),
        "embed_dim": state["image_tower.tower.head.weight"].shape[0],
        "times": state["image_tower.tower.time.weight"].shape[0],
        "activation": activation,
    }
    text = {
        "vocab_size": vocab_size,
        "context": said.context or state["text_tower.positional_embedding"].shape[0],
        "width": text_width,
        "depth": _depth(state, "text_tower"),
        "heads": settle("text_heads", said.text_heads, text_width // _HEAD_WIDTH, path, said.override),
        "embed_dim": state["text_tower.text_projection"].shape[1],
        "activation": activation,
    }
    betas = {"class_path": "mmfound.diffusion.CosineBetas", "init_args": {"steps": tower["times"]}}
    schedule = {"class_path": "mmfound.diffusion.DiscreteSchedule", "init_args": {"betas": betas}}
    image = {
        "class_path": "mmfound.models.NoisedTower",
        "init_args": {"tower": {"class_path": "mmfound.models.TimedViT", "init_args": tower}, "schedule": schedule},
    }
    towers = {"image_tower": image, "text_tower": {"class_path": "mmfound.models.TextTransformer", "init_args": text}}
    return {
        "class_path": "mmfound.models.DualEncoder",
        "init_args": towers,
        "image": {"size": image_size, "mean": list(facts.mean), "std": list(facts.std)},
    }


def _tower(kind: str) -> str:
    return "image_tower.tower" if kind == "image" else "text_tower"


def _in_block(name: str) -> str:
    for pattern, ours in _BLOCK.items():
        name = re.sub(f"^{pattern}", ours, name)
    return _spelled(name)


def _at_end(name: str) -> str:
    for theirs, ours in _ENDS.items():
        if name == theirs or (theirs.endswith(".") and name.startswith(theirs)):
            return _spelled(ours + name.removeprefix(theirs))
    return name


def _spelled(name: str) -> str:
    """`weight` and `bias` for the letters that stand for them."""
    return re.sub(r"\.[wg]$", ".weight", re.sub(r"\.b$", ".bias", name))


def _joined(block: str, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The projection of queries, keys and values; parts that are missing leave it out, which is told then."""
    if parts.keys() != {"f_q.w", "f_k.w", "f_v.w", "f_q.b", "f_v.b"}:
        return {block + name: value for name, value in parts.items()}
    return {
        f"{block}attn.in_proj.weight": torch.cat([parts[f"f_{part}.w"] for part in "qkv"]),
        f"{block}attn.in_proj.bias": torch.cat([parts["f_q.b"], torch.zeros_like(parts["f_q.b"]), parts["f_v.b"]]),
    }


def _depth(state: Mapping[str, Tensor], tower: str) -> int:
    return 1 + max(int(match[1]) for name in state if (match := re.match(rf"{tower}\.blocks\.(\d+)\.", name)))
