"""Whose names the weights of a file have, and the same weights under ours."""

from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor

from mmfound.errors import ConfigError
from mmfound.interop.glide_clip import from_glide_clip, is_glide_clip
from mmfound.interop.openai import from_openai
from mmfound.interop.siglip import from_siglip
from mmfound.interop.transformers import from_transformers

_WRAPPERS = ("module.", "_orig_mod.", "model.")
_TEXT = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")


def to_ours(tensors: Mapping[str, Tensor], vision: Mapping[str, Any], path: Any) -> dict[str, Tensor]:
    """Rename somebody's weights for a `DualEncoder`.

    Args:
        tensors: OpenAI's, open_clip's or transformers' state dict, of CLIP or SigLIP; or GLIDE's noised CLIP.
        vision: open_clip's `vision_cfg`, which names the timm model of an image tower that is one.
        path: where they are from, for errors.

    Raises:
        ConfigError: when they are of none of these.
    """
    tensors = _unwrapped(tensors)
    if is_glide_clip(tensors):
        return from_glide_clip(tensors)
    if any(name.startswith("vision_model.") for name in tensors):
        return (from_siglip if "vision_model.head.probe" in tensors else from_transformers)(tensors)
    if "visual.trunk" in {".".join(name.split(".")[:2]) for name in tensors}:
        return _text(tensors) | _trunk(tensors, vision, path)
    if "visual.conv1.weight" in tensors:
        return _text(tensors) | from_openai({k: v for k, v in tensors.items() if not _is_text(k)})
    raise ConfigError(
        f"{path} holds weights of another architecture: expected are OpenAI's, open_clip's or transformers' CLIP "
        f"(visual.conv1.weight, vision_model...) or SigLIP, and found {_first(tensors)}"
    )


def _unwrapped(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Without what wraps a whole model: DistributedDataParallel, torch.compile."""
    for wrapper in _WRAPPERS * 2:
        if tensors and all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
    return tensors


def _is_text(name: str) -> bool:
    return name.startswith(("text.", *_TEXT))


def _text(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text tower, at the root or under `text.`; and the temperature."""
    bare = {name.removeprefix("text."): value for name, value in tensors.items() if _is_text(name)}
    bare |= {name: value for name, value in tensors.items() if not name.startswith("visual.") and not _is_text(name)}
    renamed = from_openai(bare)
    return {name.replace("text_tower.text_projection.", "text_tower.head."): v for name, v in renamed.items()}


def _trunk(tensors: Mapping[str, Tensor], vision: Mapping[str, Any], path: Any) -> dict[str, Tensor]:
    name = vision.get("timm_model_name")
    if not isinstance(name, str) or not timm.is_model(name):
        raise ConfigError(
            f"{path} has an image tower of timm, and {'no configuration' if name is None else repr(name)} names the "
            "model as installed; put open_clip's open_clip_config.json beside the weights"
        )
    classifier = getattr(timm.get_pretrained_cfg(name), "classifier", None)
    places = {"visual.trunk.": "image_tower.model.", "visual.head.proj.": f"image_tower.model.{classifier}."}
    renamed = {}
    for key, value in tensors.items():
        place = next((place for place in places if key.startswith(place)), None)
        if place is not None:
            renamed[places[place] + key.removeprefix(place)] = value
        elif key.startswith("visual."):
            renamed[key] = value  # is told to be too many
    return renamed


def _first(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {list(value.shape)}" for name, value in list(tensors.items())[:3])
