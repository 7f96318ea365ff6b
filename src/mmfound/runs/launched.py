"""The ranks that Lightning's launcher starts as children of the first one, and how all of them end."""

import os
import signal
import threading
import time
from subprocess import Popen, TimeoutExpired
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line asks `is_launched` before it may import torch
    from lightning.pytorch import Trainer

_PARENT = "MMFOUND_PARENT"  # in the environment of the children, the first rank's process
_GRACE_S = 10.0


def is_launched() -> bool:
    """Whether another rank has started this process and lives."""
    return os.environ.get(_PARENT) == str(os.getppid())


def prepare(trainer: "Trainer") -> None:
    """Tell the children that will be started whose they are; one of them ends with its parent.

    A rank whose first rank was killed would wait for it as long as the collective's timeout allows.
    """
    from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

    launcher = trainer.strategy.launcher
    if is_launched():
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True, name="parent").start()
        return
    starts_ranks = isinstance(launcher, _SubprocessScriptLauncher)
    if starts_ranks and not launcher.cluster_environment.creates_processes_externally:
        os.environ[_PARENT] = str(os.getpid())


def part(trainer: "Trainer") -> None:
    """Let no child's end kill this process: Lightning would do so without a word. `death` tells of it instead."""
    launcher = trainer.strategy.launcher
    watched = getattr(launcher, "procs", [])
    if watched:
        launcher.procs = watched.copy()  # pyright: ignore
        watched.clear()


def death(trainer: "Trainer") -> tuple[int, str] | None:
    """Rank and fate of a child that has ended with an error or was killed; None while there is none."""
    for rank, child in enumerate(_children(trainer), trainer.global_rank + 1):
        code = child.poll()
        if code:
            return rank, f"ended with code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
    return None


def end(trainer: "Trainer", patience_s: float) -> None:
    """Wait for the children, and kill those that do not end: they may wait for this process in a collective.

    Args:
        trainer: whose launcher has started them.
        patience_s: seconds for all of them.
    """
    part(trainer)
    os.environ.pop(_PARENT, None)
    deadline = time.monotonic() + patience_s
    for child in _children(trainer):
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except TimeoutExpired:
            child.kill()


def _children(trainer: "Trainer") -> list[Popen]:
    return getattr(trainer.strategy.launcher, "procs", [])


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    time.sleep(_GRACE_S)
    os._exit(1)
