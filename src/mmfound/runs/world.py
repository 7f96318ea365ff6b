"""Which process of how many this is, as the scheduler's and the launcher's variables say."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mmfound.errors import ConfigError

_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_PORT = 29500  # torch's


@dataclass(frozen=True)
class World:
    """A process among others.

    Attributes:
        launcher: what has started it: torchrun, srun, variables (those of torchrun, set by something else) or none.
        rank: its number.
        ranks: how many there are.
        local_rank: its number on its host.
        address: host of rank 0.
        port: where ranks meet; 0 for any that is free.
        store_is_there: whether the launcher listens at that port, so that rank 0 need not.
        attempt: how often the launcher has started the ranks before.
    """

    launcher: str
    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    address: str = "127.0.0.1"
    port: int = 0
    store_is_there: bool = False
    attempt: int = 0


def from_environment() -> World:
    """What the environment says; one process alone when it says nothing.

    A batch script has Slurm's variables, too, but only what srun starts is one of several.
    """
    if all(os.environ.get(name) for name in _TORCHRUN):
        return _of_torchrun()
    if "SLURM_PROCID" in os.environ and "SLURM_STEP_NUM_TASKS" in os.environ and _number("SLURM_STEP_NUM_TASKS") > 1:
        return _of_srun()
    return World("none")


def slurm() -> dict[str, str]:
    """Job, name, nodes, node list, tasks and restarts of this Slurm job; empty outside of one."""
    if "SLURM_JOB_ID" not in os.environ:
        return {}
    names = {
        "job": "SLURM_JOB_ID",
        "name": "SLURM_JOB_NAME",
        "nodes": "SLURM_JOB_NUM_NODES",
        "hosts": "SLURM_JOB_NODELIST",
        "tasks": "SLURM_NTASKS",
        "tasks_per_node": "SLURM_NTASKS_PER_NODE",
        "restarts": "SLURM_RESTART_COUNT",
    }
    return {key: os.environ[name] for key, name in names.items() if os.environ.get(name)}


def first_host(hosts: str) -> str:
    """The first of a node list such as `n[01-04,9],gpu3`, as Lightning reads it."""
    first = re.sub(r"\[(.*?)[,-].*\]", r"\1", hosts)
    return re.sub(r"\[(.*?)\]", r"\1", first).split(" ")[0].split(",")[0]


def start_command(command: str) -> str:
    """How to start several ranks where this process runs."""
    return f"srun {command}" if slurm() else f"torchrun --nproc-per-node 2 -m {command}"


def _of_torchrun() -> World:
    elastic = "TORCHELASTIC_RUN_ID" in os.environ
    return World(
        launcher="torchrun" if elastic else "variables",
        rank=_number("RANK"),
        ranks=_number("WORLD_SIZE"),
        local_rank=_number("LOCAL_RANK", "0"),
        address=os.environ["MASTER_ADDR"],
        port=_number("MASTER_PORT"),
        store_is_there=os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=_number("TORCHELASTIC_RESTART_COUNT", "0"),
    )


def _of_srun() -> World:
    """Address and port are those that Lightning uses."""
    hosts = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST") or "127.0.0.1"
    return World(
        launcher="srun",
        rank=_number("SLURM_PROCID"),
        ranks=_number("SLURM_STEP_NUM_TASKS"),
        local_rank=_number("SLURM_LOCALID", "0"),
        address=os.environ.get("MASTER_ADDR") or first_host(hosts),
        port=_number("MASTER_PORT", str(_slurm_port(os.environ))),
    )


def _slurm_port(environment: Mapping[str, str]) -> int:
    digits = environment.get("SLURM_JOB_ID", "")[-4:]
    return 15000 + int(digits) if digits.isdigit() else _PORT


def _number(name: str, default: str | None = None) -> int:
    value = os.environ.get(name) or default or ""
    if not value.isdigit():
        raise ConfigError(f"{name}={value}: what a launcher sets must be a number; unset it, or set it right")
    return int(value)
