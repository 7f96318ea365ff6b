"""Reads the files that DeepSpeed's ZeRO writes, of any stage and any number of ranks.

DeepSpeed's own tools turn them into float32 weights without moments (`zero_to_fp32`), or into a folder of four files
per parameter (`ds_to_universal`); tests hold this to both.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmfound.errors import CheckpointError

TAG = "checkpoint"  # the folder that Lightning has DeepSpeed write into
GROUPS = "optimizer_groups"  # in the file beside DeepSpeed's
_MODEL, _OPTIMIZER = "*_model_states.pt", "*_optim_states.pt"


def choose_accelerator() -> None:
    """DeepSpeed warns where there is no GPU, unless it is told so before it is imported."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def is_zero(folder: Path) -> bool:
    """Whether a checkpoint is a folder of DeepSpeed's."""
    return (folder / TAG).is_dir()


def written_by(folder: Path) -> tuple[int, int]:
    """Stage and number of ranks; read without limits on pickles."""
    files = _in_order(folder, _OPTIMIZER)
    return int(_load(files[0])["optimizer_state_dict"]["zero_stage"]), len(files)


@torch.no_grad()  # masters come as they are trained
def read(folder: Path, groups: list[dict[str, Any]]) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Weights in float32 by name, and the state of the one optimiser by number; read without limits on pickles.

    Args:
        folder: the checkpoint.
        groups: the optimiser's, with the names of their parameters.

    Raises:
        CheckpointError: when files of some ranks are missing.
    """
    models = [_load(path) for path in _in_order(folder, _MODEL)]  # one, or in ZeRO 3 one of each rank
    model = models[0]
    files = [_load(path)["optimizer_state_dict"] for path in _in_order(folder, _OPTIMIZER)]
    expected = int(torch.as_tensor(files[0]["partition_count"]).max())
    if len(files) != expected:
        raise CheckpointError(f"checkpoint {folder} has the files of {len(files)} of {expected} ranks; name another")
    shapes: list[Mapping[str, torch.Size]] = model["param_shapes"]
    merge = _stage_3 if int(files[0]["zero_stage"]) == 3 else _stage_1_2
    merged = merge(files, shapes)
    weights = _others(models, set(merged)) | {name: found.pop("fp32") for name, found in merged.items()}
    weights |= {alias: weights[name] for alias, name in model.get("shared_params", {}).items()}
    return weights, [_optimizer(files[0], merged, groups)]


def _others(models: list[dict[str, Any]], trained: set[str]) -> dict[str, Tensor]:
    """Buffers and frozen parameters, which have no master copy; of frozen ones, ZeRO 3 splits even those."""
    module = models[0]["module"] or {}
    found = {name: value for name, value in module.items() if name not in trained and isinstance(value, Tensor)}
    fragments = [model.get("frozen_param_fragments") or {} for model in models]
    for name, shape in (models[0].get("frozen_param_shapes") or {}).items():
        found[name] = torch.cat([rank[name].flatten() for rank in fragments])[: shape.numel()].reshape(shape)
    return found


def _stage_1_2(files: list[dict[str, Any]], shapes: list[Mapping[str, Any]]) -> dict[str, dict[str, Tensor]]:
    """Each rank has a slice of all parameters of a group laid end to end."""
    merged: dict[str, dict[str, Tensor]] = {}
    for group, named in enumerate(shapes):
        pieces: dict[str, dict[str, list[Tensor]]] = {name: {} for name in named}
        for file in files:
            flat = _moments(file, group) | {"fp32": file["single_partition_of_fp32_groups"][group]}
            for name, place in file["param_slice_mappings"][group].items():
                for kind, values in flat.items():
                    piece = values[place.start : place.start + place.numel]
                    pieces[name].setdefault(kind, []).append(piece)
        for name, shape in named.items():
            merged[name] = {kind: torch.cat(parts).reshape(shape) for kind, parts in pieces[name].items()}
    return merged


def _stage_3(files: list[dict[str, Any]], shapes: list[Mapping[str, Any]]) -> dict[str, dict[str, Tensor]]:
    """Each rank has a slice of every parameter, padded to equal length."""
    flat = [_flat_stage_3(file) for file in files]
    merged: dict[str, dict[str, Tensor]] = {}
    start = 0
    for name, shape in (item for named in shapes for item in named.items()):
        length = math.ceil(shape.numel() / len(files))
        merged[name] = {
            kind: torch.cat([rank[kind][start : start + length] for rank in flat])[: shape.numel()].reshape(shape)
            for kind in flat[0]
        }
        start += length
    return merged


def _flat_stage_3(file: Mapping[str, Any]) -> dict[str, Tensor]:
    parts = [_moments(file["optimizer_state_dict"], group) for group in range(len(file["fp32_flat_groups"]))]
    whole = {kind: torch.cat([part[kind] for part in parts]) for kind in parts[0]}
    return whole | {"fp32": torch.cat(list(file["fp32_flat_groups"]))}


def _moments(file: Mapping[str, Any], group: int) -> dict[str, Tensor]:
    state = file.get("base_optimizer_state", file)
    state = state["state"] if isinstance(state, Mapping) else {}
    found = state.get(group, {})
    return {kind: value for kind, value in found.items() if isinstance(value, Tensor) and value.dim() == 1}


def _optimizer(
    file: Mapping[str, Any], merged: Mapping[str, dict[str, Tensor]], groups: list[dict[str, Any]]
) -> dict[str, Any]:
    """As torch's own optimisers save it."""
    saved = file.get("base_optimizer_state") or file["optimizer_state_dict"]
    steps = [float(value["step"]) for value in saved["state"].values() if "step" in value]
    numbers = {name: place for place, name in enumerate(name for group in groups for name in group["params"])}
    state = {numbers[name]: moments for name, moments in merged.items() if moments}
    for moments in state.values() if steps else ():
        moments["step"] = torch.tensor(max(steps))  # each its own: they are counted in place
    numbered = [{**group, "params": [numbers[name] for name in group["params"]]} for group in groups]
    return {"state": state, "param_groups": numbered}


def settings(group: Mapping[str, Any]) -> dict[str, Any]:
    """Of an optimiser's group, without its parameters."""
    return {name: value for name, value in group.items() if name != "params"}


def _in_order(folder: Path, pattern: str) -> list[Path]:
    found = sorted((folder / TAG).glob(pattern), key=lambda path: list(_numbers(path.name)))
    if not found:
        raise CheckpointError(f"checkpoint {folder} has no {pattern} in {TAG}; name another")
    return found


def _numbers(name: str) -> Iterator[int]:
    return (int(number) for number in re.findall(r"\d+", name))


def _load(path: Path) -> dict[str, Any]:
    choose_accelerator()
    return torch.load(path, map_location="cpu", weights_only=False, mmap=True)
