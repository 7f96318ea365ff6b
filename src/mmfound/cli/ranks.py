"""How many processes there are where a launcher starts them: Slurm or torchrun, not Lightning."""

import os
from typing import Any

from mmfound.errors import ConfigError

_UNSET = {"devices": ("auto", -1, "-1"), "num_nodes": (1,)}


def launched(trainer: Any) -> dict[str, int]:
    """`devices` and `num_nodes` as the launcher has them; empty where Lightning starts the processes.

    Args:
        trainer: the recipe's `trainer`, where `devices: auto` and `num_nodes: 1` leave it to the launcher.

    Raises:
        ConfigError: when the recipe says something else, or the processes or GPUs are not there.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        name, each = "torchrun", _number("LOCAL_WORLD_SIZE")
        nodes, options = _number("WORLD_SIZE") // each, ("--nproc-per-node", "--nnodes")
    elif _is_slurm_step():
        name, each, nodes = "Slurm", _tasks_on_each_node(), _number("SLURM_NNODES")
        options = ("--ntasks-per-node", "--nodes")
        _check_gpus(trainer, each)
    else:
        return {}
    _check("devices", trainer.devices, each, f"{name} starts {each} processes on each node ({options[0]})")
    _check("num_nodes", trainer.num_nodes, nodes, f"{name} uses {nodes} nodes ({options[1]})")
    found = {"devices": each, "num_nodes": nodes}
    return {setting: count for setting, count in found.items() if getattr(trainer, setting) in _UNSET[setting]}


def _check(setting: str, given: Any, count: int, fact: str) -> None:
    if given not in _UNSET[setting] and _count(given) != count:
        raise ConfigError(
            f"trainer.{setting} is {given}, and {fact}; change one of them, or leave it out of the recipe"
        )


def _check_gpus(trainer: Any, tasks: int) -> None:
    """Every task must see all GPUs of its node, and there must be as many."""
    if trainer.accelerator not in ("auto", "gpu", "cuda"):
        return
    import torch

    seen = torch.cuda.device_count()
    if seen > tasks and trainer.devices in _UNSET["devices"]:
        raise ConfigError(
            f"Slurm starts {tasks} tasks on each node, and each of them sees {seen} GPUs, of which it would use "
            f"one; submit with --ntasks-per-node={seen}, or set trainer.devices to {tasks}"
        )
    if 0 < seen < tasks:
        raise ConfigError(
            f"Slurm starts {tasks} tasks on each node, and each of them sees {seen} GPUs; submit with --gpus-per-node="
            f"{tasks}, and without --gpus-per-task and --gpu-bind: every task must see all GPUs of its node"
        )


def _is_slurm_step() -> bool:
    """Where Lightning takes ranks from Slurm: not in a shell of `salloc` or `srun --pty bash`."""
    return "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def _tasks_on_each_node() -> int:
    tasks = _number("SLURM_NTASKS")
    if tasks > 1 and "SLURM_STEP_ID" not in os.environ:
        raise ConfigError(f"Slurm has room for {tasks} tasks, and this process was started alone; write srun before it")
    if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise ConfigError(f"Slurm starts {tasks} tasks (--ntasks); submit with --ntasks-per-node instead")
    return _number("SLURM_NTASKS_PER_NODE") if tasks > 1 else 1


def _number(name: str) -> int:
    return int(os.environ.get(name) or 1)


def _count(devices: Any) -> int:
    """Of a number, or a list of devices."""
    return len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else 0
