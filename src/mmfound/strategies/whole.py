"""Checkpoints that several ranks have written, put together into one that any strategy goes on from.

The result is laid out as Lightning's checkpoint of one process: `state_dict` and `optimizer_states` (by number of the
parameter, as torch's optimisers have them) beside loops, callbacks and the rest.
"""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict
from torch.optim import Optimizer

from mmfound.errors import CheckpointError, ConfigError
from mmfound.strategies import zero_files
from mmfound.strategies.folders import META
from mmfound.strategies.scan import scan_folder


def is_dcp(path: Path) -> bool:
    """Whether a checkpoint is a folder of PyTorch's distributed checkpoints, which FSDP2 writes."""
    return (path / ".metadata").is_file()


def is_folder_checkpoint(path: Path) -> bool:
    """Whether a folder is itself a checkpoint of several ranks."""
    return is_dcp(path) or zero_files.is_zero(path)


def whole_checkpoint(path: Path, trusted: bool = False) -> dict[str, Any]:
    """Read a checkpoint of any strategy, on the CPU.

    Args:
        path: a file, or the folder of FSDP2 or ZeRO.
        trusted: skip the look for pickles that run code.

    Raises:
        ConfigError: when it is none of these, or would run code.
        CheckpointError: when it cannot be read.
    """
    if path.is_file():
        return torch.load(path, map_location="cpu", weights_only=not trusted, mmap=True)
    if not trusted:
        scan_folder(path)
    try:
        meta = read_meta(path, trusted)
        if is_dcp(path):
            weights, optimizers = _dcp(path)
        elif zero_files.is_zero(path):
            weights, optimizers = zero_files.read(path, meta.pop(zero_files.GROUPS))
        else:
            raise ConfigError(f"{path} is a folder, but no checkpoint of FSDP2 or DeepSpeed; name another one")
    except (OSError, LookupError, RuntimeError, EOFError, TypeError, AttributeError, CheckpointException) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}; name another one") from error
    return {**meta, "state_dict": weights, "optimizer_states": optimizers}


def read_meta(folder: Path, trusted: bool = False) -> dict[str, Any]:
    """What a folder holds beside weights and moments.

    Raises:
        ConfigError: when that is more than plain values.
    """
    try:
        return torch.load(folder / META, map_location="cpu", weights_only=not trusted, mmap=True)
    except UnpicklingError as error:
        raise ConfigError(
            f"checkpoint {folder} holds more than tensors and plain values, which could run code; where you trust it, "
            "add --weights_only false"
        ) from error


def by_name(state: Mapping[str, Any], optimizer: Optimizer, module: nn.Module) -> dict[str, Any]:
    """An optimiser's state keyed by the names of a module's parameters, which sharded ones are set by."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups, name_of = [], {}
    for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True):
        named = [names[id(parameter)] for parameter in own["params"]]
        name_of |= dict(zip(saved["params"], named, strict=True))
        groups.append({**saved, "params": named})
    return {"state": {name_of[number]: value for number, value in state["state"].items()}, "param_groups": groups}


def by_number(state: Mapping[str, Any]) -> dict[str, Any]:
    """An optimiser's state that is keyed by name, keyed by number."""
    names = [name for group in state["param_groups"] for name in group["params"]]
    number = {name: place for place, name in enumerate(names)}
    groups = [{**group, "params": [number[name] for name in group["params"]]} for group in state["param_groups"]]
    return {"state": {number[name]: value for name, value in state["state"].items()}, "param_groups": groups}


def _dcp(folder: Path) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    state: dict[str, Any] = {}
    _load_state_dict(state, FileSystemReader(folder), planner=_EmptyStateDictLoadPlanner(), no_dist=True)
    count = sum(name.startswith("optimizer_") for name in state)
    return state["state_dict"], [by_number(state[f"optimizer_{place}"]) for place in range(count)]
