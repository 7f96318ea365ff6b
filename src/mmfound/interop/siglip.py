"""Weights of transformers' SiglipModel as weights of a `DualEncoder`."""

from collections.abc import Mapping

from torch import Tensor

from mmfound.interop.transformers import from_transformers

_POOL = "vision_model.head."
_NAMES = {
    "layernorm.": "norm.",
    "mlp.": "mlp.",
    "attention.out_proj.": "proj.",
}


def from_siglip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a SiglipModel for a `DualEncoder` of a `TimmTower` with a latent pool and a `SiglipText`.

    Args:
        weights: state dict of `transformers.SiglipModel`.

    Returns:
        State dict of a `DualEncoder`.
    """
    towers = {name: value for name, value in weights.items() if not name.startswith((_POOL, "text_model.head."))}
    renamed = from_transformers(towers)
    for name, value in weights.items():
        if name.startswith(_POOL):
            renamed |= _pool(name.removeprefix(_POOL), value)
        elif name.startswith("text_model.head."):
            renamed[name.replace("text_model.head.", "text_tower.head.")] = value
    return renamed


def _pool(name: str, value: Tensor) -> dict[str, Tensor]:
    ours = "image_tower.model.attn_pool."
    if name == "probe":
        return {f"{ours}latent": value}
    if name.startswith("attention.in_proj_"):
        kind = name.removeprefix("attention.in_proj_")
        width = value.shape[0] // 3
        return {f"{ours}q.{kind}": value[:width], f"{ours}kv.{kind}": value[width:]}
    for theirs, replacement in _NAMES.items():
        if name.startswith(theirs):
            return {ours + replacement + name.removeprefix(theirs): value}
    return {ours + name: value}
