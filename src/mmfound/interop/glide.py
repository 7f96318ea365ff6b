"""The weights of GLIDE that OpenAI released: base, upsampler and both for inpainting; a file has U-Net and text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmfound.building import build
from mmfound.errors import ConfigError, DataError
from mmfound.interop.archive import read_tensors
from mmfound.models import GlideText, UNet
from mmfound.nn.unet_attention import JointAttention
from mmfound.weights import load

_PARTS = (UNet, GlideText)
_HEAD_DIM = 64  # of U-Nets and texts that were released
_TEXT = ("token_embedding.", "positional_embedding", "padding_embedding", "final_ln.", "transformer")
_TEXT_NAMES = [
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.attn\.c_qkv\.", ".attn.in_proj."),
    (r"\.attn\.c_proj\.", ".attn.out_proj."),
    (r"^final_ln\.", "ln_final."),
    (r"^transformer_proj\.", "vector_proj."),
]
_NAMES = [
    (r"^time_embed\.", "time."),
    (r"^input_blocks\.0\.0\.", "stem."),
    (r"^input_blocks\.(\d+)\.", lambda match: f"down.{int(match[1]) - 1}."),
    (r"^middle_block\.", "middle."),
    (r"^output_blocks\.", "up."),
    (r"^out\.0\.", "norm."),
    (r"^out\.2\.", "out."),
    (r"\.in_layers\.0\.", ".norm_1."),
    (r"\.in_layers\.2\.", ".conv_1."),
    (r"\.emb_layers\.1\.", ".norm_2.embed."),
    (r"\.out_layers\.0\.", ".norm_2.norm."),
    (r"\.out_layers\.3\.", ".conv_2."),
    (r"\.skip_connection\.", ".skip."),
    (r"\.qkv\.", ".in_proj."),
    (r"\.encoder_kv\.", ".token_proj."),
    (r"\.proj_out\.", ".out_proj."),
]
# Channels beside x_t, in the order of the files: what the conditioners of a stage have to give.
_CONCAT = {0: (), 3: ("low_res",), 4: ("inpaint",), 7: ("inpaint", "low_res")}


@dataclass(frozen=True)
class Glide:
    """One file of GLIDE.

    Attributes:
        network: the U-Net.
        text: the transformer whose hidden states it attends to and whose vector it is given.
        concat: what stands beside x_t, in this order: "inpaint" is the known picture, zero where it is not known,
            and the mask, 1 where it is (4 channels); "low_res" the smaller picture, enlarged bilinearly (3 channels).
    """

    network: UNet
    text: GlideText
    concat: tuple[str, ...]


def load_glide(path: Path | str, *, head_dim: int = _HEAD_DIM, text_heads: int | None = None) -> Glide:
    """Load one of the released files, whose architecture is read off its shapes.

    Args:
        path: base.pt, upsample.pt, base_inpaint.pt or upsample_inpaint.pt, whatever its name.
        head_dim: width of the U-Net's attention heads, which the weights do not say.
        text_heads: heads of the text transformer, likewise; heads 64 wide by default.

    Raises:
        ConfigError: when the file holds something else, or there is none.
        DataError: when it is damaged.
    """
    tensors = read_tensors(Path(path))
    described = describe_glide(tensors, path, head_dim=head_dim, text_heads=text_heads)
    network, text = (build(described[part], str(path)) for part in ("network", "text"))
    states = from_glide(tensors, head_dim=head_dim, text_heads=described["text"]["init_args"]["heads"])
    for module, state in zip((network, text), states, strict=True):
        problem = load(module, state)
        if problem is not None:
            raise DataError(f"{path} was taken for GLIDE's {_outline(described)} and does not fit it: {problem}.")
    return Glide(network, text, tuple(described["concat"]))


def is_glide(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names of one of these files."""
    return "padding_embedding" in weights and "input_blocks.0.0.weight" in weights


def weights_for(module: nn.Module, weights: Mapping[str, Tensor], path: Any) -> dict[str, Tensor]:
    """Released weights under the names of a module of a recipe, such as a stage.

    Args:
        module: with one `UNet` and one `GlideText` in it; heads are as wide as theirs.
        weights: under their released names.
        path: where they are from, for errors.

    Raises:
        ConfigError: when it has none, or several.
    """
    found = {kind: [name for name, part in module.named_modules() if isinstance(part, kind)] for kind in _PARTS}
    unlike = next((kind for kind, names in found.items() if len(names) != 1), None)
    if unlike is not None:
        raise ConfigError(
            f"{path} holds weights of GLIDE, a UNet and a GlideText, and the recipe's {type(module).__name__} has "
            f"{len(found[unlike])} {unlike.__name__}; use one of each"
        )
    unet, text = (module.get_submodule(names[0]) for names in found.values())
    attention = next((part for part in unet.modules() if isinstance(part, JointAttention)), None)
    head_dim = attention.out_proj.in_features // attention.heads if attention else _HEAD_DIM
    block: Any = text.blocks[0]  # pyright: ignore[reportIndexIssue]
    states = from_glide(weights, head_dim=head_dim, text_heads=block.attn.heads)
    prefixes = [f"{names[0]}." if names[0] else "" for names in found.values()]
    return {f"{p}{name}": value for p, state in zip(prefixes, states, strict=True) for name, value in state.items()}


def describe_glide(
    weights: Mapping[str, Tensor], path: Any, *, head_dim: int = _HEAD_DIM, text_heads: int | None = None
) -> dict[str, Any]:
    """What recipes would say of a file: `network` and `text` as class_path and init_args, and `concat`.

    Args:
        weights: under their released names; only shapes are looked at.
        path: where they are from, for errors.
        head_dim, text_heads: as in `load_glide`.

    Raises:
        ConfigError: when they are of another architecture.
    """
    unet, text = _unet(weights, path, head_dim), _text(weights, path, text_heads)
    added = unet["init_args"]["in_channels"] - 3
    if added not in _CONCAT:
        raise ConfigError(
            f"{path} takes {added + 3} channels; GLIDE's take 3 (base), 6 (upsampler), 7 and 10 (for inpainting)"
        )
    return {"network": unet, "text": text, "concat": list(_CONCAT[added])}


def from_glide(
    weights: Mapping[str, Tensor], *, head_dim: int = _HEAD_DIM, text_heads: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Rename released weights: the state dicts of a `UNet` and of a `GlideText`.

    Queries, keys and values, which lie head by head in the files, are put in a row.

    Args:
        weights: under their released names.
        head_dim: width of the U-Net's heads.
        text_heads: heads of the text transformer.
    """
    unet, text = {}, {}
    for name, value in weights.items():
        is_text = name.startswith(_TEXT)
        ours = _renamed(name, _TEXT_NAMES if is_text else _NAMES)
        if re.search(r"_proj\.weight$", ours):
            value = value.flatten(1)  # 1 x 1 convolutions
        if re.search(r"\.(in|token)_proj\.", ours):
            parts = 2 if "token_proj" in ours else 3
            value = _in_a_row(value, parts, text_heads if is_text else len(value) // (parts * head_dim))
        (text if is_text else unet)[ours] = value
    return unet, text


def _renamed(name: str, rules: list[tuple[str, Any]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _in_a_row(value: Tensor, parts: int, heads: int) -> Tensor:
    """[heads x parts x d, ...] -> [parts x heads x d, ...]."""
    return value.unflatten(0, (heads, parts, -1)).transpose(0, 1).flatten(0, 2)


def _unet(weights: Mapping[str, Tensor], path: Any, head_dim: int) -> dict[str, Any]:
    width, in_channels = _shape(weights, "input_blocks.0.0.weight", path)[:2]
    steps = _count(weights, r"output_blocks\.(\d+)\.")
    # A step of the way up ends in another residual block where its level does.
    ends = [i for i in range(steps) if any(f"output_blocks.{i}.{k}.in_layers.0.weight" in weights for k in (1, 2))]
    per_level = ends[0] + 1 if ends else steps
    levels = [range(start, start + per_level) for start in range(0, steps, per_level)][::-1]
    channels = [_shape(weights, f"output_blocks.{steps_of[0]}.0.out_layers.3.weight", path)[0] for steps_of in levels]
    attends = [f"output_blocks.{steps_of[0]}.1.qkv.weight" in weights for steps_of in levels]
    wrong = [count for count, here in zip(channels, [*attends[:-1], True], strict=True) if here and count % head_dim]
    if wrong:
        raise ConfigError(f"{path} has attention over {wrong[0]} channels, which head_dim {head_dim} does not divide")
    init = {
        "in_channels": in_channels,
        "out_channels": _shape(weights, "out.2.weight", path)[0],
        "width": width,
        "multipliers": [count // width for count in channels],
        "blocks": per_level - 1,
        "attention_at": [2**level for level, here in enumerate(attends) if here],
        "residual": {"class_path": "mmfound.models.unet_parts.ScaleShift"},
        "resample": {"class_path": "mmfound.models.unet_parts.InBlocks"},
        "attention": {
            "class_path": "mmfound.models.unet_parts.Joint",
            "init_args": {
                "token_width": _shape(weights, "middle_block.1.encoder_kv.weight", path)[1],
                "head_dim": head_dim,
            },
        },
    }
    return {"class_path": "mmfound.models.UNet", "init_args": init}


def _text(weights: Mapping[str, Tensor], path: Any, heads: int | None) -> dict[str, Any]:
    vocab_size, width = _shape(weights, "token_embedding.weight", path)
    heads = heads or width // _HEAD_DIM
    if heads < 1 or width % heads:
        raise ConfigError(f"{path} has texts {width} wide, and text_heads {heads} does not divide that; set text_heads")
    init = {
        "vocab_size": vocab_size,
        "context": _shape(weights, "padding_embedding", path)[0],
        "width": width,
        "depth": _count(weights, r"transformer\.resblocks\.(\d+)\."),
        "heads": heads,
        "embed_dim": _shape(weights, "transformer_proj.weight", path)[0],
    }
    return {"class_path": "mmfound.models.GlideText", "init_args": init}


def _shape(weights: Mapping[str, Tensor], name: str, path: Any) -> list[int]:
    if name not in weights:
        some = ", ".join(f"{name} {list(value.shape)}" for name, value in list(weights.items())[:3]) or "none"
        raise ConfigError(f"{path} holds weights of another architecture than GLIDE's: {name} is missing; found {some}")
    return list(weights[name].shape)


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    return max((int(match[1]) for name in weights if (match := re.match(pattern, name))), default=-1) + 1


def _outline(described: Mapping[str, Any]) -> str:
    sizes = {name: value for name, value in described["network"]["init_args"].items() if not isinstance(value, dict)}
    return f"UNet({', '.join(f'{name}={value}' for name, value in sizes.items())})"
