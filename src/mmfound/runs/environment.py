"""What a run was made with: versions, commit, hardware. Nothing is imported to find out."""

import json
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mmfound

PACKAGES = ("torch", "torchvision", "lightning", "jsonargparse", "timm", "tokenizers", "torchmetrics", "deepspeed")


def package_versions() -> dict[str, str | None]:
    """Installed versions by name; None where one is missing."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Physical memory, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def disk_free(folder: Path) -> int:
    """Bytes free on the disk of `folder`, or of its nearest parent that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def gpus() -> list[str]:
    """`name, memory, driver` of each NVIDIA device that nvidia-smi shows."""
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    return _lines("nvidia-smi", *query)


def commit() -> str | None:
    """Commit of the working folder, with `+changes` where files differ from it."""
    head = _lines("git", "rev-parse", "HEAD")
    if not head:
        return None
    return head[0] + ("+changes" if _lines("git", "status", "--porcelain", "--untracked-files=no") else "")


def slurm_requeues(job: str) -> bool | None:
    """Whether Slurm may start this job again; None where it does not tell."""
    fields = " ".join(_lines("scontrol", "show", "job", job)).split()
    return None if "Requeue=1" not in fields and "Requeue=0" not in fields else "Requeue=1" in fields


def describe() -> dict[str, Any]:
    """All of it, for `env.json`."""
    return {
        "mmfound": mmfound.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": package_versions(),
        "cpu_cores": cpu_count(),
        "memory_bytes": memory_bytes(),
        "gpus": gpus(),
    }


def as_json() -> str:
    """The description as text."""
    return json.dumps(describe(), indent=1) + "\n"


def _lines(*command: str) -> list[str]:
    """Standard output of a program, nothing where it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []
