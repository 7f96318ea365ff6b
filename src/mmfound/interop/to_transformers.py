"""Weights of a `DualEncoder` as transformers' CLIPModel has them: the way back of `from_transformers`."""

import re
from collections.abc import Mapping

from torch import Tensor

from mmfound.errors import ConfigError
from mmfound.interop.to_openai import rename

_VISION = r"vision_model.encoder.layers.\1."
_TEXT = r"text_model.encoder.layers.\1."
_IMAGE_BLOCKS, _TEXT_BLOCKS = r"image_tower\.model\.blocks\.(\d+)\.", r"text_tower\.blocks\.(\d+)\."
_RULES = [
    (r"(logit_scale)", r"\1"),
    (r"image_tower\.model\.cls_token", "vision_model.embeddings.class_embedding"),
    (r"image_tower\.model\.patch_embed\.proj\.weight", "vision_model.embeddings.patch_embedding.weight"),
    (r"image_tower\.model\.pos_embed", "vision_model.embeddings.position_embedding.weight"),
    (r"image_tower\.model\.norm_pre\.(\w+)", r"vision_model.pre_layrnorm.\1"),
    (r"image_tower\.model\.norm\.(\w+)", r"vision_model.post_layernorm.\1"),
    (r"image_tower\.model\.head\.weight", "visual_projection.weight"),
    (_IMAGE_BLOCKS + r"norm([12])\.(\w+)", _VISION + r"layer_norm\2.\3"),
    (_IMAGE_BLOCKS + r"attn\.qkv\.(\w+)", _VISION + r"self_attn.qkv.\2"),
    (_IMAGE_BLOCKS + r"attn\.proj\.(\w+)", _VISION + r"self_attn.out_proj.\2"),
    (_IMAGE_BLOCKS + r"mlp\.(fc[12])\.(\w+)", _VISION + r"mlp.\2.\3"),
    (r"text_tower\.token_embedding\.weight", "text_model.embeddings.token_embedding.weight"),
    (r"text_tower\.positional_embedding", "text_model.embeddings.position_embedding.weight"),
    (r"text_tower\.ln_final\.(\w+)", r"text_model.final_layer_norm.\1"),
    (r"text_tower\.text_projection", "text_projection.weight"),
    (_TEXT_BLOCKS + r"ln_([12])\.(\w+)", _TEXT + r"layer_norm\2.\3"),
    (_TEXT_BLOCKS + r"attn\.in_proj\.(\w+)", _TEXT + r"self_attn.qkv.\2"),
    (_TEXT_BLOCKS + r"attn\.out_proj\.(\w+)", _TEXT + r"self_attn.out_proj.\2"),
    (_TEXT_BLOCKS + r"mlp\.c_fc\.(\w+)", _TEXT + r"mlp.fc1.\2"),
    (_TEXT_BLOCKS + r"mlp\.c_proj\.(\w+)", _TEXT + r"mlp.fc2.\2"),
]


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a `DualEncoder` of CLIP's ViT and text tower for `CLIPModel`.

    Raises:
        ConfigError: when it has weights that CLIPModel has not.
    """
    renamed = {}
    for name, value in state.items():
        theirs = rename(name, _RULES)
        if theirs is None:
            raise ConfigError(f"hf has no place for {name} {list(value.shape)}; export it without --format")
        renamed |= _parts(theirs, _shaped(theirs, value))
    return renamed


def _parts(name: str, value: Tensor) -> dict[str, Tensor]:
    match = re.fullmatch(r"(.*\.self_attn\.)qkv\.(\w+)", name)
    if match is None:
        return {name: value}
    return {f"{match[1]}{part}_proj.{match[2]}": third for part, third in zip("qkv", value.chunk(3), strict=True)}


def _shaped(name: str, value: Tensor) -> Tensor:
    if name == "logit_scale":
        return value.reshape(())
    if name == "vision_model.embeddings.class_embedding":
        return value.flatten()
    if name == "vision_model.embeddings.position_embedding.weight":
        return value[0]
    return value.T if name == "text_projection.weight" else value
