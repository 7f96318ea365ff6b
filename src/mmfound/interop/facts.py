"""What the weights themselves do not say, and a configuration beside them or the user does."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mmfound.errors import ConfigError
from mmfound.interop.files import PREPROCESSOR, Files
from mmfound.nn.pixels import CLIP_MEAN, CLIP_STD
from mmfound.nn.transformer import Activation

_ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
# Of open_clip: settings that change what the weights compute without showing in them.
_VISION = {"pool_type": "tok", "attentional_pool": False, "final_ln_after_pool": False, "output_tokens": False}
_TEXT = {"embed_cls": False, "final_ln_after_pool": False, "hf_model_name": None, "scaled_cosine_attn": False}


@dataclass(frozen=True)
class Said:
    """What the user says of weights.

    Args:
        activation: of both towers.
        image_heads: attention heads of the image tower.
        text_heads: of the text tower.
        image_size: side in pixels that the image tower is to take; its positions are resized.
        context: positions of the text tower; cut, or stretched.
        override: let activation and heads win over a configuration that says something else.
    """

    activation: Activation | None = None
    image_heads: int | None = None
    text_heads: int | None = None
    image_size: int | None = None
    context: int | None = None
    override: bool = False


@dataclass(frozen=True)
class Facts:
    """What is known; None where it is not."""

    image_activation: Activation | None = None
    text_activation: Activation | None = None
    image_heads: int | None = None
    text_heads: int | None = None
    image_size: int | None = None
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    fit: Literal["crop", "squash"] = "crop"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    pad_id: int = 1
    timm: str | None = None
    timm_pool: str | None = None


def facts_of(files: Files, openai: bool, siglip: bool) -> Facts:
    """What belongs to weights.

    Args:
        files: the weights.
        openai: whether they are OpenAI's own, which all use QuickGELU.
        siglip: whether they have SigLIP's image tower.

    Raises:
        ConfigError: when a configuration says what is not built here.
    """
    if files.open_clip:
        return _open_clip(files)
    if files.transformers.get("vision_config") is not None:
        return _transformers(files)
    activation: Activation | None = "quick_gelu" if openai else None
    half = (0.5, 0.5, 0.5)
    pictures: dict[str, Any] = {"mean": half, "std": half, "fit": "squash"} if siglip else {}
    return Facts(image_activation=activation, text_activation=activation, **pictures)


def settle(what: str, said: Any, known: Any, path: Any, override: bool) -> Any:
    """The one of what the user says and what is known; None where neither is.

    Raises:
        ConfigError: when they differ, unless the user's is to win.
    """
    if said is not None and known is not None and said != known and not override:
        raise ConfigError(
            f"{path} says {what} {known}, and {said} was asked for; leave {what} out, or set override: true to use "
            "the weights with another one than they were trained with"
        )
    return known if said is None else said


def _open_clip(files: Files) -> Facts:
    model = files.open_clip.get("model_cfg", files.open_clip)
    vision, text = model.get("vision_cfg"), model.get("text_cfg")
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        raise ConfigError(f"{files.folder}/open_clip_config.json has no vision_cfg and text_cfg; copy it again")
    for name, config, usual in (("vision_cfg", vision, _VISION), ("text_cfg", text, _TEXT)):
        other = [key for key, value in usual.items() if config.get(key, value) != value]
        if other:
            raise ConfigError(f"{files.path}: {name} sets {other[0]}: {config[other[0]]}, which is not built here")
    _check_pooling(text, files)
    for name, config in (("vision_cfg", vision), ("text_cfg", text)):
        _check_eps(name, (config.get("norm_kwargs") or {}).get("eps", 1e-5), config.get("pool_type") == "last", files)
    width, head_width = vision.get("width", 768), vision.get("head_width", 64)
    named = vision.get("timm_model_name")
    pictures = files.open_clip.get("preprocess_cfg", {})
    size = vision.get("image_size", 224)
    return Facts(
        image_activation=None if named else _open_clip_activation(model, vision),
        text_activation=_open_clip_activation(model, text),
        image_heads=None if named or isinstance(vision.get("layers"), list) else width // head_width,
        text_heads=text.get("heads", 8),
        image_size=size[0] if isinstance(size, list) else size,
        mean=tuple(pictures.get("mean", CLIP_MEAN)),
        std=tuple(pictures.get("std", CLIP_STD)),
        fit=_fit({"shortest": "crop", "squash": "squash"}, pictures.get("resize_mode", "shortest"), files),
        interpolation="bilinear" if pictures.get("interpolation") == "bilinear" else "bicubic",
        pad_id=_pad_id(files, text.get("pad_id", 1)),
        timm=named,
        timm_pool=vision.get("timm_pool", "avg") if named else None,
    )


def _check_pooling(text: Mapping[str, Any], files: Files) -> None:
    last = text.get("pool_type", "argmax") == "last"
    if text.get("pool_type", "argmax") not in ("argmax", "eos", "last") or last != text.get("no_causal_mask", False):
        raise ConfigError(
            f"{files.path}: text_cfg has pool_type {text.get('pool_type')} and no_causal_mask "
            f"{text.get('no_causal_mask', False)}; built here are a causal tower read at the end token, as CLIP's, and "
            "a bidirectional one read at the last position, as SigLIP's"
        )


def _check_eps(name: str, eps: float, siglip: bool, files: Files) -> None:
    built = 1e-6 if siglip else 1e-5
    if not math.isclose(eps, built):
        raise ConfigError(f"{files.path}: {name} has layer norms with eps {eps}, and built are those with {built}")


def _open_clip_activation(model: Mapping[str, Any], tower: Mapping[str, Any]) -> Activation:
    if model.get("quick_gelu", False):
        return "quick_gelu"
    return "gelu_tanh" if (tower.get("act_kwargs") or {}).get("approximate") == "tanh" else "gelu"


def _transformers(files: Files) -> Facts:
    config, pictures = files.transformers, files.json(PREPROCESSOR)
    siglip = str(config.get("model_type", "")) == "siglip"
    usual = "gelu_pytorch_tanh" if siglip else "quick_gelu"  # the defaults of SiglipConfig and CLIPConfig
    vision, text = config["vision_config"], config.get("text_config") or {}
    for name, tower in (("vision_config", vision), ("text_config", text)):
        _check_eps(name, tower.get("layer_norm_eps", 1e-6 if siglip else 1e-5), siglip, files)
    fallback = ((0.5,) * 3, (0.5,) * 3) if siglip else (CLIP_MEAN, CLIP_STD)
    crops = pictures.get("do_center_crop", not siglip)
    return Facts(
        image_activation=_activation(vision.get("hidden_act", usual), files),
        text_activation=_activation(text.get("hidden_act", usual), files),
        image_heads=vision.get("num_attention_heads", 12),
        text_heads=text.get("num_attention_heads", 12 if siglip else 8),
        image_size=vision.get("image_size", 224),
        mean=tuple(pictures.get("image_mean", fallback[0])),
        std=tuple(pictures.get("image_std", fallback[1])),
        fit="crop" if crops else "squash",
        interpolation="bilinear" if pictures.get("resample", 3) == 2 else "bicubic",
        pad_id=_pad_id(files, text.get("pad_token_id", 1)),
    )


def _activation(name: str, files: Files) -> Activation:
    if name not in _ACTIVATIONS:
        raise ConfigError(f"{files.folder}/config.json says hidden_act {name}; built are {sorted(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _fit(kinds: Mapping[str, Any], kind: str, files: Files) -> Any:
    if kind not in kinds:
        raise ConfigError(f"{files.path}: preprocess_cfg has resize_mode {kind!r}; there are {sorted(kinds)}")
    return kinds[kind]


def _pad_id(files: Files, otherwise: int | None) -> int:
    """What texts are filled up with: the tokenizer's, where it says so."""
    token = files.json("tokenizer_config.json").get("pad_token")
    token = token.get("content") if isinstance(token, Mapping) else token
    added = files.json("tokenizer.json").get("added_tokens", [])
    ids = [entry["id"] for entry in added if entry.get("content") == token] if isinstance(added, list) else []
    return int(ids[0]) if ids else int(otherwise or 0)
