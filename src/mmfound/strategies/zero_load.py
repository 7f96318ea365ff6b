"""Puts a checkpoint of any strategy into an engine of DeepSpeed's: every rank has read all of it and takes its part."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmfound.strategies.weights import trained_weights


@torch.no_grad()
def load_weights(task: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set parameters and buffers, and the float32 masters where there are.

    Args:
        task: set up by DeepSpeed.
        weights: its whole state dict.

    Raises:
        RuntimeError: when they do not fit, in torch's words.
    """
    own = task.state_dict(keep_vars=True)
    shapes = {name: tuple(getattr(tensor, "ds_shape", tensor.shape)) for name, tensor in own.items()}
    _check(shapes, {name: tuple(tensor.shape) for name, tensor in weights.items()}, type(task).__name__)
    for name, tensor in own.items():
        _set(tensor, weights[name])
    for name, weight in trained_weights(task).items():
        weight.master.copy_(weight.part(weights[name].to(weight.master.dtype)))


@torch.no_grad()
def load_moments(
    task: nn.Module, engine_optimizer: Any, groups: Iterable[Iterable[str]], state: Mapping[str, Any]
) -> None:
    """Set the state of the optimiser.

    Args:
        task: set up by DeepSpeed.
        engine_optimizer: DeepSpeed's, around the recipe's.
        groups: names of the parameters in each of the recipe's groups.
        state: as torch's optimisers save it.
    """
    number = {name: place for place, name in enumerate(name for group in groups for name in group)}
    optimizer = engine_optimizer.optimizer
    on_host = type(optimizer).__module__.startswith("deepspeed")  # counts steps in Python
    for name, weight in trained_weights(task).items():
        moments = state["state"].get(number.get(name))
        if moments is None or weight.master.numel() == 0:
            continue
        flat, start = weight.place(engine_optimizer)
        kept = optimizer.state[flat]
        for kind, whole in moments.items():
            if kind == "step":
                kept[kind] = int(whole) if on_host else torch.as_tensor(float(whole))
            elif isinstance(whole, Tensor) and whole.numel() > 0:
                piece = weight.part(whole.to(flat.dtype))
                kept.setdefault(kind, torch.zeros_like(flat))[start : start + piece.numel()].copy_(piece)


def _set(tensor: Tensor, whole: Tensor) -> None:
    if hasattr(tensor, "ds_id"):
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters([tensor], modifier_rank=0):
            tensor.data.copy_(whole)
    else:
        tensor.detach().copy_(whole)


def _check(own: Mapping[str, tuple], given: Mapping[str, tuple], name: str) -> None:
    problems = [f"Missing key {key}" for key in own.keys() - given.keys()]
    problems += [f"Unexpected key {key}" for key in given.keys() - own.keys()]
    both = own.keys() & given.keys()
    problems += [f"size mismatch for {key}: {given[key]}, not {own[key]}" for key in both if own[key] != given[key]]
    if problems:
        raise RuntimeError(f"Error(s) in loading state_dict for {name}:\n" + "\n".join(sorted(problems)))
