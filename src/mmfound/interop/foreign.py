"""Weights that others have written: CLIP of OpenAI, open_clip and transformers, SigLIP, and GLIDE's."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from mmfound.errors import ConfigError, DataError
from mmfound.interop import files as found
from mmfound.interop import glide, glide_stage
from mmfound.interop.architecture import Architecture
from mmfound.interop.facts import Facts, Said, facts_of
from mmfound.interop.glide_clip import describe_glide_clip, is_glide_clip
from mmfound.interop.layouts import to_ours
from mmfound.interop.structure import Vit, activation_of, image_structure
from mmfound.models import DualEncoder

is_foreign = found.is_foreign
_OPENAI = {"input_resolution", "context_length", "vocab_size"}  # only in OpenAI's own files
_POSITIONS = ("image_tower.model.pos_embed", "image_tower.model.head.pos_embed")


def describe(path: Path, said: Said) -> dict[str, Any]:
    """The recipe of somebody's weights, without reading them: class_path, init_args and image.

    Raises:
        ConfigError: when they are of another architecture, or do not say enough.
        DataError: when they are damaged.
    """
    return _described(path, said, values=False)[0]


def read(path: Path, said: Said) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The same, and the weights under our names.

    Raises:
        ConfigError, DataError: as `describe`.
    """
    return _described(path, said, values=True)


def is_known(path: Path) -> bool:
    """Whether the weights of a path have names of a library that is read here; False where they cannot be read."""
    try:
        files = found.find(path)
        tensors = found.read(files)
        if not glide.is_glide(tensors):
            to_ours(found.shapes(tensors), _vision(files), path)
    except (ConfigError, DataError):
        return False
    return True


def weights_for(module: nn.Module, path: Path) -> dict[str, Tensor]:
    """Weights for a module of a recipe, positions resized to its own.

    Raises:
        ConfigError: when the recipe's activations are known to be others than the weights'.
    """
    files = found.find(path)
    tensors = found.read(files)
    if glide.is_glide(tensors):
        return glide.weights_for(module, tensors, path)
    state = to_ours(tensors, _vision(files), path)
    facts = facts_of(files, _is_openai(tensors), _is_siglip(state))
    if isinstance(module, DualEncoder):
        _check_activations(module, facts, path)
    return fit_positions(state, module, Said(image_size=1))  # as the recipe's image tower has them


def _check_activations(module: DualEncoder, facts: Facts, path: Path) -> None:
    image, text = image_structure(module.image_tower), getattr(module.text_tower, "blocks", None)
    built = {
        "image_activation": image.activation if isinstance(image, Vit) else None,
        "text_activation": activation_of(text[0].mlp.activation) if text else None,
    }
    for name, mine in built.items():
        theirs = getattr(facts, name)
        if mine is not None and theirs is not None and mine != theirs:
            raise ConfigError(
                f"init_from: {path} was trained with activation {theirs}, and the recipe's tower has {mine}; change "
                "the recipe's"
            )


def fingerprint(path: Path) -> str:
    """SHA-256 of the weight file, in hex; where there are several, of their digests in order."""
    digests = []
    for weights in found.find(path).weights:
        with open(weights, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


@torch.no_grad()
def fit_positions(state: Mapping[str, Tensor], module: nn.Module, said: Said) -> dict[str, Tensor]:
    """Resize positions to those that a module built for another size has.

    Those of pictures bicubically with antialiasing, class slots kept; those of texts are cut, or stretched linearly.
    Only what the user has asked to resize is.
    """
    own = module.state_dict()
    fitted = dict(state)
    for name in _POSITIONS if said.image_size is not None else ():
        if name in fitted and name in own and fitted[name].shape != own[name].shape:
            fitted[name] = _image_positions(fitted[name], own[name].shape)
    name = "text_tower.positional_embedding"
    if said.context is not None and name in fitted and name in own:
        fitted[name] = _text_positions(fitted[name], own[name].shape[0])
    return fitted


def _described(path: Path, said: Said, *, values: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        return _recognised(path, said, values=values)
    except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError, RuntimeError) as error:
        raise ConfigError(
            f"{path} or the configuration beside it is unlike any that is known ({type(error).__name__}: {error}); "
            "copy or download it again"
        ) from error


def _recognised(path: Path, said: Said, *, values: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    files = found.find(path)
    tensors = found.read(files)
    if glide.is_glide(tensors):
        stage = glide_stage.describe_stage(tensors, said, path)
        return stage, glide_stage.stage_weights(tensors, stage) if values else {}
    state = to_ours(tensors if values else found.shapes(tensors), _vision(files), path)
    facts = facts_of(files, _is_openai(tensors), _is_siglip(state))
    if is_glide_clip(tensors):
        return describe_glide_clip(state, facts, said, path), state
    architecture = Architecture(state, facts, said, path)
    config = architecture.describe()
    config["image"] = {
        "size": architecture.image_size(),
        "mean": list(facts.mean),
        "std": list(facts.std),
        "fit": facts.fit,
        "interpolation": facts.interpolation,
    }
    return config, state


def _vision(files: found.Files) -> Mapping[str, Any]:
    return files.open_clip.get("model_cfg", files.open_clip).get("vision_cfg", {})


def _is_openai(tensors: Mapping[str, Tensor]) -> bool:
    return tensors.keys() >= _OPENAI


def _is_siglip(state: Mapping[str, Tensor]) -> bool:
    return "image_tower.model.attn_pool.latent" in state


def _image_positions(positions: Tensor, shape: torch.Size) -> Tensor:
    """[1, N, D] or [N, D] to as many cells as `shape` has; the places before the square grid stay."""
    batched = positions if positions.ndim == 3 else positions[None]
    cells, length = batched.shape[1], shape[-2]
    prefix = cells - math.isqrt(cells) ** 2
    grid = math.isqrt(length - prefix)
    if grid**2 + prefix != length or prefix > 1:
        raise ConfigError(f"positions of shape {list(positions.shape)} cannot be resized to {list(shape)}")
    resized = resample_abs_pos_embed(batched.float(), [grid, grid], num_prefix_tokens=prefix)
    return resized if positions.ndim == 3 else resized[0]


def _text_positions(positions_LD: Tensor, length: int) -> Tensor:
    if length <= positions_LD.shape[0]:
        return positions_LD[:length]
    return F.interpolate(positions_LD.float().T[None], size=length, mode="linear")[0].T
