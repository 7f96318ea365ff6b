"""Fully sharded data parallelism: parameters, gradients and optimiser state split over all ranks (PyTorch's FSDP2)."""

from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.checkpoint import DefaultSavePlanner, FileSystemWriter, save
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.utils._pytree import tree_map

from mmfound.strategies.folders import FolderSaving
from mmfound.strategies.loading import load_weights
from mmfound.strategies.scan import save_by_value
from mmfound.strategies.weights import make_contiguous
from mmfound.strategies.whole import by_name, is_dcp, whole_checkpoint

_STEPS = ("training_step", "validation_step", "test_step", "predict_step")


class Fsdp2(FolderSaving, ModelParallelStrategy):
    """FSDP2 over all ranks; checkpoints are folders with a file per rank, which any number of ranks reads.

    Weights, moments and gradients are in the precision of the parameters: under `bf16-mixed` float32, with autocast
    around the forward pass as in DDP.

    Args:
        process_group_backend: "nccl" or "gloo"; that of the device by default.
    """

    def __init__(self, process_group_backend: str | None = None) -> None:
        super().__init__(tensor_parallel_size=1, process_group_backend=process_group_backend)

    def setup_environment(self) -> None:
        """Start the ranks; all of them share the parameters."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def fill(self, checkpoint: dict[str, Any], folder: Path) -> None:
        """This rank's shards of weights and moments, and one file for all else."""
        rest = {name: value for name, value in checkpoint.items() if name not in ("state_dict", "optimizer_states")}
        states = checkpoint.get("optimizer_states", [])
        shards = {f"optimizer_{place}": state for place, state in enumerate(states)}
        save_by_value(_MEM_FORMAT_ENCODING)
        planner = DefaultSavePlanner(dedup_save_to_lowest_rank=True)  # buffers differ, and the first rank's count
        save(
            {"state_dict": checkpoint["state_dict"], **shards}, storage_writer=FileSystemWriter(folder), planner=planner
        )
        self.write_meta(rest, folder)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Load a folder of FSDP2, or what another strategy has saved."""
        path = Path(checkpoint_path)
        if is_dcp(path):
            self.scan(path)
            return super().load_checkpoint(path, not self.trusted)
        checkpoint = tree_map(_contiguous, whole_checkpoint(path, self.trusted))
        model = self.model
        assert model is not None
        load_weights(model, checkpoint.pop("state_dict"))
        options = StateDictOptions(full_state_dict=True)
        for optimizer, state in zip(self.optimizers, checkpoint.get("optimizer_states", []), strict=False):
            set_optimizer_state_dict(model, optimizer, by_name(state, optimizer, model), options=options)
        return checkpoint


def shard(task: nn.Module, mesh: DeviceMesh, methods: tuple[str, ...] = ()) -> None:
    """Shard every block of a module and then what is left of it; once.

    Blocks are the elements of lists and sequences that are made of modules themselves, such as transformer blocks and
    residual blocks: their weights are gathered when they compute, and let go.

    Args:
        task: what is trained; its parameters become DTensors.
        mesh: one-dimensional, of the ranks that share the parameters.
        methods: of `task`, called from outside, that compute with its weights, beside Lightning's steps.
    """
    if not isinstance(task, FSDPModule):
        make_contiguous(task)
        for block in reversed(list(_blocks(task))):
            fully_shard(block, mesh=mesh)
        fully_shard(task, mesh=mesh)
    for name in (*_STEPS, *methods):
        _gather_in(task, name)


def _contiguous(value: Any) -> Any:
    """Of tensors in channels_last the bytes would be taken in the wrong order."""
    return value.contiguous() if isinstance(value, torch.Tensor) else value


def _blocks(task: nn.Module) -> Iterator[nn.Module]:
    for part in task.modules():
        if isinstance(part, (nn.ModuleList, nn.Sequential)):
            for block in part:
                if any(True for _ in block.children()) and any(True for _ in block.parameters()):
                    yield block


def _gather_in(task: nn.Module, name: str) -> None:
    """Let a method of a sharded module find whole weights; one that calls another gathers once."""
    plain = getattr(task, name)
    if getattr(plain, "gathers", False):
        return
    register_fsdp_forward_method(task, name)
    gathering: Callable[..., Any] = getattr(task, name)

    @wraps(plain)
    def method(*args: Any, **kwargs: Any) -> Any:
        if vars(task).get("_gathered"):
            return plain(*args, **kwargs)
        vars(task)["_gathered"] = True
        try:
            return gathering(*args, **kwargs)
        finally:
            vars(task)["_gathered"] = False
            if not torch.is_grad_enabled():  # no backward pass follows, after which whole weights would be let go
                task.reshard()  # pyright: ignore[reportCallIssue]

    method.gathers = True  # pyright: ignore[reportAttributeAccessIssue]
    vars(task)[name] = method
