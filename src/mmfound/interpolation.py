"""Weights between two models of one architecture (WiSE-FT: Wortsman et al. 2022, arXiv:2109.01903)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmfound.errors import ConfigError
from mmfound.text.loading import load_tokenizer
from mmfound.text.saved import FILE, content_of
from mmfound.weights import describe, export, tensors

_TRAINING_ONLY = ("drop_path", "patch_drop", "init_temperature", "init_bias")  # change nothing about trained weights


def interpolate(a: Mapping[str, Tensor], b: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """(1 - alpha) a + alpha b, tensor by tensor, in float32 at least.

    Temperatures are averaged as logarithms, and running statistics of batch normalisation like weights; those of a
    mixture are better measured anew, where pictures are at hand. Counts and other integers are those of the nearer end.
    At 0 and 1 the result is that end, bit for bit.

    Args:
        a: state dict of the zero-shot model.
        b: of the fine-tuned one.
        alpha: in [0, 1].

    Raises:
        ConfigError: when alpha is out of range, or the first difference in names, shapes and dtypes.
    """
    check_alpha(alpha)
    for name in sorted(a.keys() ^ b.keys())[:1]:
        raise ConfigError(f"the models differ: only the {'first' if name in a else 'second'} has {name}.")
    for name, tensor in a.items():
        if (tensor.shape, tensor.dtype) != (b[name].shape, b[name].dtype):
            kinds = (f"{list(x.shape)} {str(x.dtype).removeprefix('torch.')}" for x in (tensor, b[name]))
            raise ConfigError(f"the models differ: {name} is {' in the first and '.join(kinds)} in the second.")
    return {name: _between(tensor, b[name], alpha) for name, tensor in a.items()}


def check_alpha(alpha: float) -> None:
    """Refuse a share of the second model that is none.

    Raises:
        ConfigError: with the number.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha is {alpha}; it must lie between 0, the first model, and 1, the second.")


def interpolate_exports(a: Path | str, b: Path | str, alpha: float, to: Path | str) -> None:
    """Export the model between two exports, with the description and tokenizer of the second.

    Args:
        a: the export of the zero-shot model.
        b: of the fine-tuned one.
        alpha: share of the second, in [0, 1].
        to: the new export.

    Raises:
        ConfigError: when they are no two states of one model, or `to` is one of them.
    """
    if Path(to).resolve() in (Path(a).resolve(), Path(b).resolve()):
        raise ConfigError(f"{to} is one of the two models; name another folder.")
    first, second = describe(a), describe(b)
    odd = _difference(first, second, "")
    if odd:
        raise ConfigError(f"{a} and {b} are no two states of one model: they differ in {odd}.")
    tokenizers = [load_tokenizer(Path(folder)) for folder in (a, b) if (Path(folder) / FILE).is_file()]
    if len(tokenizers) == 2 and content_of(tokenizers[0]) != content_of(tokenizers[1]):
        raise ConfigError(f"{a} and {b} have different tokenizers; fine-tune with that of the first.")
    weights = interpolate(tensors(a), tensors(b), alpha)
    tokenizer = tokenizers[-1] if tokenizers else None
    export(weights, second, to, tokenizer=tokenizer, image=second.get("image"))


def _between(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    if alpha in (0, 1) or not a.is_floating_point():
        return (a if alpha < 0.5 else b).clone()
    wide = torch.promote_types(a.dtype, torch.float32)
    return torch.lerp(a.to(wide), b.to(wide), alpha).to(a.dtype)


def _difference(a: Any, b: Any, name: str) -> str | None:
    """The first dotted name under which two descriptions differ in what a trained model computes."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = [key for key in {**a, **b} if key not in _TRAINING_ONLY and (name or key != "image")]
        found = (_difference(a.get(key), b.get(key), f"{name}.{key}" if name else str(key)) for key in keys)
        return next((one for one in found if one), None)
    return None if a == b else f"{name.removeprefix('init_args.')} ({a!r} and {b!r})"
