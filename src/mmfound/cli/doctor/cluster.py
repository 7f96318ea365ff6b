"""What the cluster gives to this process: scheduler, network, compiler, file system. Torch is not imported."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmfound.errors import ConfigError
from mmfound.runs import extensions, filesystem, network, world
from mmfound.runs.environment import slurm_requeues
from mmfound.runs.extensions import BuildLock


def facts(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and value of every line.

    Args:
        folder: whose file system is tried.
    """
    yield "scheduler", _scheduler()
    yield "launcher", _launcher()
    yield "network", network.described(network.interfaces())
    for variable in network.VARIABLES:
        yield variable, _interface(variable)
    yield "C++ extensions", _compiler()
    yield "extension folder", _extensions(extensions.folder())
    yield from (("build lock", _lock(lock)) for lock in extensions.locks())
    yield "folder", _folder(folder)


def _scheduler() -> str:
    job = world.slurm()
    if not job:
        return "none (no Slurm job)"
    requeues = {
        True: "requeue allowed",
        False: "requeue not allowed: add `#SBATCH --requeue`",
        None: "requeue unknown (scontrol does not answer)",
    }[slurm_requeues(job["job"])]
    parts = [
        f"Slurm job {job['job']} {job.get('name', '')}".strip(),
        f"{job.get('nodes', '1')} nodes ({job.get('hosts', 'unknown')})",
        f"{job.get('tasks', '1')} tasks",
        requeues,
    ]
    if "restarts" in job:
        parts.append(f"restarted {job['restarts']} times")
    if int(job.get("tasks", "1")) > 1 and "tasks_per_node" not in job:
        parts.append("training needs --ntasks-per-node instead of --ntasks")
    return ", ".join(parts)


def _launcher() -> str:
    try:
        here = world.from_environment()
    except ConfigError as error:
        return str(error)
    if here.launcher == "none":
        return "none: one process" + ("; srun starts one on every task" if world.slurm() else "")
    return f"{here.launcher}: rank {here.rank} of {here.ranks}, rank 0 at {here.address}:{here.port}"


def _interface(variable: str) -> str:
    value = os.environ.get(variable)
    if value:
        return f"{value}: {network.wrong(variable, value) or 'is there'}"
    if variable.startswith("NCCL"):
        return f"not set: {', '.join(network.nccl_interfaces()) or 'nothing'} is taken"
    address = network.gloo_address()
    alone = ", which other hosts cannot reach: set it for several hosts" if network.is_loopback(address) else ""
    return f"not set: {address} is taken{alone}"


def _compiler() -> str:
    missing = extensions.missing_compiler()
    if missing:
        return f"cannot be compiled, which DeepSpeed's CPU optimisers need; missing: {missing}"
    return f"can be compiled: {shutil.which(os.environ.get('CXX') or 'c++')}, {shutil.which('ninja')}"


def _extensions(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}, which nothing was compiled in yet"
    kind = filesystem.kind(folder)
    built = len({path.parent for pattern in ("*/*.so", "*/*/*.so") for path in folder.glob(pattern)})
    shared = ", shared: hosts wait for one another; a TORCH_EXTENSIONS_DIR on a local disk is faster"
    return f"{folder} ({kind}{shared if filesystem.is_shared(kind) else ''}), {built} compiled"


def _lock(lock: BuildLock) -> str:
    age = f"{lock.path}, {duration(lock.age_s)} old"
    if lock.builders:
        return f"{age}: {', '.join(lock.builders)} compiles"
    if lock.is_stale:
        return f"{age}: nobody compiles there, and every start that needs it hangs; remove it: rm {lock.path}"
    return f"{age}: no process of this host compiles there; if none of another one does, remove it: rm {lock.path}"


def _folder(folder: Path) -> str:
    kind = filesystem.kind(folder)
    try:
        found = filesystem.probe(folder)
    except OSError as error:
        return f"{folder.absolute()} ({kind}): nothing can be written ({error.strerror}); --folder names another"
    return f"{folder.absolute()} ({kind}): {described(found)}"


def described(found: filesystem.Semantics) -> str:
    """What works and what does not, and what that means for a run there."""
    needs = {
        "rename": (found.rename, "checkpoints are not safe there"),
        "fsync": (found.sync, "checkpoints may be lost in a power cut"),
        "hard links": (found.link, "the run lock does without"),
        "flock": (found.lock, "compile extensions elsewhere: TORCH_EXTENSIONS_DIR"),
    }
    works = [name for name, (reason, _) in needs.items() if reason is None]
    fails = [f"no {name} ({reason}; {effect})" for name, (reason, effect) in needs.items() if reason is not None]
    times = "times in whole seconds" if found.coarse_times else "times finer than a second"
    parts = [*([f"{', '.join(works)} work"] if works else []), *fails, times, _clock(found.ahead_s)]
    return "; ".join(parts)


def _clock(ahead_s: float) -> str:
    if abs(ahead_s) < 0.1:
        return "its clock is this host's"
    return f"its clock is {duration(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'} this host's"


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    for unit, size in (("days", 86400), ("hours", 3600), ("min", 60), ("s", 1)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds * 1e3:.3g} ms" if abs(seconds) < 1 else f"{seconds:.1f} s"
