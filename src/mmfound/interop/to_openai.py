"""Weights of a `DualEncoder` under OpenAI's names, which open_clip shares: the way back of `from_openai`."""

import re
from collections.abc import Mapping

from torch import Tensor

from mmfound.errors import ConfigError

_BLOCKS = r"image_tower\.model\.blocks\.(\d+)\."
_STAGE = r"image_tower\.model\.stages\.(\d)\.(\d+)\."
_RULES = [
    (r"(logit_scale|logit_bias)", r"\1"),
    (r"text_tower\.blocks\.(\d+)\.attn\.in_proj\.(\w+)", r"transformer.resblocks.\1.attn.in_proj_\2"),
    (r"text_tower\.blocks\.(.*)", r"transformer.resblocks.\1"),
    (r"text_tower\.(token_embedding\.weight|positional_embedding|ln_final\.\w+|text_projection)", r"\1"),
    (r"text_tower\.head\.(\w+)", r"text_projection.\1"),
]
_VIT = [
    (r"image_tower\.model\.patch_embed\.proj\.weight", "visual.conv1.weight"),
    (r"image_tower\.model\.cls_token", "visual.class_embedding"),
    (r"image_tower\.model\.pos_embed", "visual.positional_embedding"),
    (r"image_tower\.model\.norm_pre\.(\w+)", r"visual.ln_pre.\1"),
    (r"image_tower\.model\.norm\.(\w+)", r"visual.ln_post.\1"),
    (r"image_tower\.model\.head\.weight", "visual.proj"),
    (_BLOCKS + r"norm([12])\.(\w+)", r"visual.transformer.resblocks.\1.ln_\2.\3"),
    (_BLOCKS + r"attn\.qkv\.(\w+)", r"visual.transformer.resblocks.\1.attn.in_proj_\2"),
    (_BLOCKS + r"attn\.proj\.(\w+)", r"visual.transformer.resblocks.\1.attn.out_proj.\2"),
    (_BLOCKS + r"mlp\.fc1\.(\w+)", r"visual.transformer.resblocks.\1.mlp.c_fc.\2"),
    (_BLOCKS + r"mlp\.fc2\.(\w+)", r"visual.transformer.resblocks.\1.mlp.c_proj.\2"),
]
_RESNET = [
    (r"image_tower\.model\.stem\.conv([123])\.(conv|bn)\.(\w+)", r"visual.\2\1.\3"),
    (_STAGE + r"shortcut\.conv\.conv\.(\w+)", r"visual.layer<\1>.\2.downsample.0.\3"),
    (_STAGE + r"shortcut\.conv\.bn\.(\w+)", r"visual.layer<\1>.\2.downsample.1.\3"),
    (_STAGE + r"conv([123])_(?:1x1|kxk)\.(conv|bn)\.(\w+)", r"visual.layer<\1>.\2.\4\3.\5"),
    (r"image_tower\.model\.head\.pos_embed", "visual.attnpool.positional_embedding"),
    (r"image_tower\.model\.head\.([qkv])\.(\w+)", r"visual.attnpool.\1_proj.\2"),
    (r"image_tower\.model\.head\.proj\.(\w+)", r"visual.attnpool.c_proj.\1"),
]


def to_openai(state: Mapping[str, Tensor], vit: bool, target: str) -> dict[str, Tensor]:
    """Rename the weights of a `DualEncoder` of CLIP's towers.

    Args:
        state: its state dict.
        vit: whether the image tower is a ViT.
        target: the format, for errors.

    Raises:
        ConfigError: when it has weights that CLIP has not.
    """
    rules = _RULES + (_VIT if vit else _RESNET)
    renamed = {}
    for name, value in state.items():
        theirs = rename(name, rules)
        if theirs is None:
            raise ConfigError(f"{target} has no place for {name} {list(value.shape)}; export it without --format")
        renamed[theirs] = _shaped(theirs, value)
    return renamed


def rename(name: str, rules: list[tuple[str, str]]) -> str | None:
    """By the first rule that fits the whole name; None where none does."""
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, name):
            return re.sub(r"<(\d)>", lambda stage: str(int(stage[1]) + 1), match.expand(replacement))
    return None


def _shaped(name: str, value: Tensor) -> Tensor:
    if name in ("logit_scale", "logit_bias"):
        return value.reshape(())
    if name == "visual.class_embedding":
        return value.flatten()
    if name == "visual.positional_embedding":
        return value[0]
    return value.T if name == "visual.proj" else value
