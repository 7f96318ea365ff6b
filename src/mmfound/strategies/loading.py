"""Puts a checkpoint of any strategy into weights that are split: every rank has read all of it and takes its part."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mmfound.rebuilt import without_rebuilt
from mmfound.strategies.weights import Weight, trained_weights, weight


@torch.no_grad()
def load_weights(task: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set parameters and buffers, and the float32 masters where there are.

    Args:
        task: set up by a strategy.
        weights: its whole state dict.

    Raises:
        RuntimeError: when they do not fit, in torch's words.
    """
    own, weights = task.state_dict(keep_vars=True), without_rebuilt(task, weights)
    shapes = {name: tuple(getattr(tensor, "ds_shape", tensor.shape)) for name, tensor in own.items()}
    _check(shapes, {name: tuple(tensor.shape) for name, tensor in weights.items()}, type(task).__name__)
    for name, tensor in own.items():
        set_weight(tensor, weights[name])
    masters = {name: found for name, found in trained_weights(task).items() if type(found) is not Weight}
    for name, trained in masters.items():
        trained.master.copy_(trained.part(weights[name].to(trained.master.dtype)))


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
    beside = any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
    on_host = type(optimizer).__module__.startswith("deepspeed")  # counts steps in Python
    for name, trained in trained_weights(task).items():
        moments = state["state"].get(number.get(name))
        if moments is None or trained.master.numel() == 0:
            continue
        flat, start = trained.place(engine_optimizer)
        kept = optimizer.state[flat]
        count_on = flat.device if beside else torch.device("cpu")  # as torch's optimisers do
        for kind, whole in moments.items():
            if kind == "step":
                kept[kind] = int(whole) if on_host else torch.tensor(float(whole), device=count_on)
            elif isinstance(whole, Tensor) and whole.numel() > 0:
                piece = trained.part(whole.to(flat.dtype))
                kept.setdefault(kind, torch.zeros_like(flat))[start : start + piece.numel()].copy_(piece)


@torch.no_grad()
def set_weight(tensor: Tensor, whole: Tensor) -> None:
    """Set what is computed with, of a parameter or buffer that may be split."""
    if isinstance(tensor, DTensor):
        weight(tensor).master.copy_(weight(tensor).part(whole))
    elif hasattr(tensor, "ds_id"):
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
