"""Dual encoders as open_clip loads them with `local-dir:`: a folder with a configuration and the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from mmfound.errors import ConfigError
from mmfound.interop.structure import ResNet, Text, Vit, image_structure, text_structure
from mmfound.interop.to_openai import to_openai
from mmfound.interop.tokenizer_files import write_file_tokenizer
from mmfound.interop.writing import save, state_of, write_json
from mmfound.models import DualEncoder, SiglipText, TimmTower
from mmfound.nn.pixels import CLIP_MEAN, CLIP_STD
from mmfound.text.file_tokenizer import FileTokenizer
from mmfound.text.tokenizer import Tokenizer


def write_open_clip(encoder: DualEncoder, described: Mapping[str, Any], tokenizer: Tokenizer | None, to: Path) -> None:
    """Write `open_clip_config.json` and the weights.

    Args:
        encoder: what is written.
        described: its class_path, init_args and image, as an export has them.
        tokenizer: of its texts.
        to: the folder, which is made.

    Raises:
        ConfigError: when open_clip cannot build this model, with the reason.
    """
    text = text_structure(encoder, "open_clip")
    tower = image_structure(encoder.image_tower)
    image = described.get("image") or {}
    model: dict[str, Any] = {"embed_dim": text.embed_dim, "text_cfg": _open_clip_text(encoder, text, tokenizer)}
    state = state_of(encoder)
    if tower is None:
        model["vision_cfg"], trunk = _open_clip_timm(encoder.image_tower, described["init_args"]["image_tower"], state)
        texts = {name: value for name, value in state.items() if not name.startswith("image_tower.")}
        state = to_openai(texts, True, "open_clip") | trunk
        model["quick_gelu"] = text.activation == "quick_gelu"
    else:
        model["vision_cfg"] = _open_clip_vision(tower, text)
        model["quick_gelu"] = text.activation == "quick_gelu"
        state = to_openai(state, isinstance(tower, Vit), "open_clip")
    if tower is None or text.siglip:
        model["custom_text"] = True
        state = {_custom(name): value for name, value in state.items()}
    if encoder.logit_bias is not None:
        model["init_logit_bias"] = -10
    to.mkdir()
    if isinstance(tokenizer, FileTokenizer):
        write_file_tokenizer(tokenizer, to, getattr(encoder.text_tower, "pad_id", None))
    save(state, to / "open_clip_model.safetensors")
    pictures = {
        "mean": list(image.get("mean", CLIP_MEAN)),
        "std": list(image.get("std", CLIP_STD)),
        "interpolation": image.get("interpolation", "bicubic"),
        "resize_mode": "squash" if image.get("fit") == "squash" else "shortest",
    }
    write_json(to / "open_clip_config.json", {"model_cfg": model, "preprocess_cfg": pictures})


def _open_clip_vision(tower: Vit | ResNet, text: Text) -> dict[str, Any]:
    if isinstance(tower, ResNet):
        return {"layers": list(tower.depths), "width": tower.width, "image_size": tower.image_size}
    if (tower.activation == "quick_gelu") != (text.activation == "quick_gelu"):
        raise ConfigError(
            f"open_clip has one activation for both towers, and this model {tower.activation} and {text.activation}"
        )
    return {
        "layers": tower.depth,
        "width": tower.width,
        "head_width": tower.width // tower.heads,
        "mlp_ratio": _ratio(tower.mlp_width, tower.width),
        "patch_size": tower.patch_size,
        "image_size": tower.image_size,
        **_tanh(tower.activation),
    }


def _open_clip_text(encoder: DualEncoder, text: Text, tokenizer: Tokenizer | None) -> dict[str, Any]:
    config: dict[str, Any] = {
        "context_length": text.context,
        "vocab_size": text.vocab_size,
        "width": text.width,
        "heads": text.heads,
        "layers": text.depth,
        "mlp_ratio": _ratio(text.mlp_width, text.width),
        **_tanh(text.activation),
    }
    if isinstance(encoder.text_tower, SiglipText):
        config |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
        config["pad_id"] = encoder.text_tower.pad_id
    end = getattr(tokenizer, "end_id", text.vocab_size - 1)
    if not text.siglip and end != text.vocab_size - 1:
        config |= {"pool_type": "eos", "eos_id": end}  # the end token is not the largest
    if isinstance(tokenizer, FileTokenizer):
        clean = {"none": "whitespace", "punctuation": "canonicalize"}.get(tokenizer.clean, tokenizer.clean)
        config |= {"hf_tokenizer_name": "local", "tokenizer_kwargs": {"clean": clean}}
    return config


def _open_clip_timm(
    tower: Any, described: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not isinstance(tower, TimmTower):
        raise ConfigError(f"open_clip has no image tower like {type(tower).__name__}; export it without --format")
    arguments = described["init_args"]
    name, options = arguments["name"], dict(arguments.get("options") or {})
    pool = options.pop("global_pool", getattr(tower.model, "global_pool", ""))
    default = timm.get_pretrained_cfg(name)
    size = arguments.get("image_size") or default.input_size[-1]  # pyright: ignore
    if options or (default.fixed_input_size and size != default.input_size[-1]):  # pyright: ignore
        what = f"options {options}" if options else f"image_size {size}"
        raise ConfigError(f"open_clip builds timm's {name} by its name alone, and here it has {what}")
    classifier = f"image_tower.model.{default.classifier}."  # pyright: ignore
    if f"{classifier}bias" in state:
        raise ConfigError(f"open_clip has no place for the bias of {name}'s projection")
    trunk = {
        key.replace(classifier, "visual.head.proj.").replace("image_tower.model.", "visual.trunk."): value
        for key, value in state.items()
        if key.startswith("image_tower.")
    }
    projected = arguments.get("embed_dim") is not None
    vision = {"timm_model_name": name, "timm_model_pretrained": False, "timm_proj": "linear" if projected else "none"}
    return vision | {"timm_pool": pool if isinstance(pool, str) else "", "image_size": size}, trunk


def _custom(name: str) -> str:
    return name if name.startswith(("visual.", "logit_")) else f"text.{name}"


def _tanh(activation: str) -> dict[str, Any]:
    return {"act_kwargs": {"approximate": "tanh"}} if activation == "gelu_tanh" else {}


def _ratio(mlp_width: int, width: int) -> float:
    return 4.0 if mlp_width == 4 * width else (mlp_width + 0.5) / width  # open_clip cuts the product
