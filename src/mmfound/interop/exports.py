"""Dual encoders as other libraries load them: OpenAI's one file, open_clip's and transformers' folders."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from mmfound.errors import ConfigError
from mmfound.interop.open_clip_folder import write_open_clip
from mmfound.interop.structure import ResNet, Text, Vit, image_structure, text_structure
from mmfound.interop.to_openai import to_openai
from mmfound.interop.to_transformers import to_transformers
from mmfound.interop.tokenizer_files import write_clip_tokenizer
from mmfound.interop.writing import save, state_of, whole, write_json
from mmfound.models import DualEncoder
from mmfound.nn.pixels import CLIP_MEAN, CLIP_STD
from mmfound.text.clip_bpe import ClipBpe
from mmfound.text.tokenizer import Tokenizer

Format = Literal["openai", "open_clip", "hf"]
_HALF = re.compile(r".*(conv\d|downsample\.0|in_proj_\w+|out_proj|c_fc|[cqkv]_proj)(\.\w+)?|.*proj(ection)?")
_HIDDEN_ACT = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}


def write(
    encoder: DualEncoder,
    described: Mapping[str, Any],
    tokenizer: Tokenizer | None,
    target: Format,
    to: Path,
) -> None:
    """Write a dual encoder in another library's format.

    Args:
        encoder: what is written.
        described: its class_path, init_args and image, as an export has them.
        tokenizer: of its texts.
        target: "openai" writes one file in float16, the others a folder in float32.
        to: which must not be there.

    Raises:
        ConfigError: when the format cannot hold this model, with the reason, `to` is there, or cannot be written.
        DiskFullError: when there is no room.
    """
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise ConfigError(f"{to} is there already and would be overwritten; move it, or name another")
    image = described.get("image") or {}
    if target == "openai":
        whole(to, lambda new: _write_openai(encoder, image, tokenizer, new))
    elif target == "hf":
        whole(to, lambda new: _write_transformers(encoder, image, tokenizer, new))
    else:
        whole(to, lambda new: write_open_clip(encoder, described, tokenizer, new))


def _write_openai(encoder: DualEncoder, image: Mapping[str, Any], tokenizer: Tokenizer | None, to: Path) -> None:
    tower, text = _clip_towers(encoder, "openai", tokenizer)
    vit = isinstance(tower, Vit)
    other = [a for a in (tower.activation if vit else "quick_gelu", text.activation) if a != "quick_gelu"]
    if other:
        raise ConfigError(f"openai: all of OpenAI's weights use quick_gelu, and this model {other[0]}; use open_clip")
    heads = [(part.width, part.heads) for part in (tower, text) if not isinstance(part, ResNet)]
    wide = next(((width, count) for width, count in heads if width != 64 * count), None)
    if wide is not None:
        raise ConfigError(
            f"openai: heads are 64 wide, and a tower of width {wide[0]} has {wide[1]} here; use open_clip"
        )
    if vit and tower.mlp_width != 4 * tower.width:
        raise ConfigError(
            f"openai: MLPs are 4 times as wide, and here {tower.mlp_width} of {tower.width}; use open_clip"
        )
    _check_pictures(image)
    state = to_openai(state_of(encoder), vit, "openai")
    halved = {name: value.half() if _HALF.fullmatch(name) else value for name, value in state.items()}
    numbers = {"input_resolution": tower.image_size, "context_length": text.context, "vocab_size": text.vocab_size}
    # By way of the memory: torch reports a full disk as a bug of its own.
    held = io.BytesIO()
    torch.save(halved | {name: torch.tensor(number) for name, number in numbers.items()}, held)
    to.write_bytes(held.getbuffer())


def _check_pictures(image: Mapping[str, Any]) -> None:
    usual = {"mean": CLIP_MEAN, "std": CLIP_STD}
    other = [name for name, value in usual.items() if name in image and tuple(image[name]) != value]
    if other or image.get("fit", "crop") != "crop":
        what = other[0] if other else "fit"
        raise ConfigError(f"openai: pictures have CLIP's mean, std and crop, and here {what} is {image[what]}")


def _write_transformers(encoder: DualEncoder, image: Mapping[str, Any], tokenizer: Tokenizer | None, to: Path) -> None:
    tower, text = _clip_towers(encoder, "hf", tokenizer)
    if isinstance(tower, ResNet):
        raise ConfigError("hf: transformers' CLIPModel has no ResNet; use --format open_clip or openai")
    to.mkdir()
    save(to_transformers(state_of(encoder)), to / "model.safetensors")
    end = text.vocab_size - 1
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": text.embed_dim,
        "logit_scale_init_value": 2.6592,
        "text_config": _layers(text)
        | {
            "model_type": "clip_text_model",
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context,
            "projection_dim": text.embed_dim,
            "bos_token_id": end - 1,
            "eos_token_id": end,
            "pad_token_id": end,
        },
        "vision_config": _layers(tower)
        | {
            "model_type": "clip_vision_model",
            "image_size": tower.image_size,
            "patch_size": tower.patch_size,
            "projection_dim": text.embed_dim,
        },
    }
    write_json(to / "config.json", config)
    write_json(to / "preprocessor_config.json", _preprocessor(image, tower.image_size))
    if isinstance(tokenizer, ClipBpe):
        write_clip_tokenizer(tokenizer, to)


def _layers(part: Vit | Text) -> dict[str, Any]:
    return {
        "hidden_size": part.width,
        "num_hidden_layers": part.depth,
        "num_attention_heads": part.heads,
        "intermediate_size": part.mlp_width,
        "hidden_act": _HIDDEN_ACT[part.activation],
        "layer_norm_eps": 1e-5,
    }


def _preprocessor(image: Mapping[str, Any], size: int) -> dict[str, Any]:
    crops = image.get("fit", "crop") == "crop"
    square = {"height": size, "width": size}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size} if crops else square,
        "resample": 2 if image.get("interpolation") == "bilinear" else 3,
        "do_center_crop": crops,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(image.get("mean", CLIP_MEAN)),
        "image_std": list(image.get("std", CLIP_STD)),
    }


def _clip_towers(encoder: DualEncoder, target: str, tokenizer: Tokenizer | None) -> tuple[Vit | ResNet, Text]:
    text = text_structure(encoder, target)
    tower = image_structure(encoder.image_tower)
    if tower is None or text.siglip or encoder.logit_bias is not None:
        raise ConfigError(
            f"{target} holds CLIP's ResNets and ViTs with CLIP's text tower, and this model has "
            f"{type(encoder.image_tower).__name__} and {type(encoder.text_tower).__name__}"
            f"{' with a logit_bias' if encoder.logit_bias is not None else ''}; use open_clip, or no --format"
        )
    if tokenizer is not None and getattr(tokenizer, "end_id", None) != text.vocab_size - 1:
        raise ConfigError(
            f"{target} finds the end of a text by its largest id, and {type(tokenizer).__name__} ends texts otherwise"
        )
    return tower, text
