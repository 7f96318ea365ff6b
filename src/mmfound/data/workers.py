"""Worker processes under torch's DataLoader."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from types import FrameType
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

_FOR_MAIN = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)  # a scheduler sends them to every process
_GRACE_S = 60.0  # for the main process to stop, after SIGTERM

StartMethod = Literal["forkserver", "spawn", "fork"]


@dataclass(frozen=True)
class Workers:
    """How batches are made.

    Args:
        count: processes; 0 makes batches in the main process.
        start_method: "forkserver" is safe beside CUDA and threads; "fork" starts at once and is neither.
        prefetch: batches that each worker makes ahead.
    """

    count: int
    start_method: StartMethod = "forkserver"
    prefetch: int = 2

    def warm_up(self) -> None:
        """Begin importing what workers need in the fork server, without waiting for it."""
        if self.count and self.start_method == "forkserver":
            multiprocessing.get_context("forkserver").set_forkserver_preload(["mmfound.data"])
            _start_fork_server()

    def loader(self, reader: Any, draws: Iterable[Any], *, keep: bool) -> DataLoader:
        """A DataLoader giving `reader[draw]` for each draw.

        Args:
            reader: picklable, addressed by what `draws` gives.
            draws: one item per batch.
            keep: keep the processes when the loader has been iterated to its end.
        """
        self.warm_up()
        return DataLoader(
            reader,
            batch_size=None,
            sampler=draws,
            num_workers=self.count,
            collate_fn=_unchanged,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start,
            multiprocessing_context=self.start_method if self.count else None,
            prefetch_factor=self.prefetch if self.count else None,
            persistent_workers=keep and self.count > 0,
            generator=torch.Generator(),  # or it would draw from the main process's global one
        )


def shut_down(iterator: Any) -> None:
    """End the processes of a DataLoader's iterator now: left to the garbage collector, each may take five seconds."""
    if iterator is not None and hasattr(iterator, "_shutdown_workers"):
        iterator._shutdown_workers()


def default_count(ranks_here: int) -> int:
    """One less than the cores that a process of this machine has, at most 8.

    Args:
        ranks_here: processes of the run on this machine.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(8, cores // ranks_here - 1))


def _start_fork_server() -> None:
    """Start it with the main process's signals blocked: its workers would end with it, before the run has saved."""
    resource_tracker.ensure_running()  # else the fork server does it, and unblocks them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_MAIN)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unchanged(batch: Any) -> Any:
    return batch


def _start(number: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # The main process finishes its step and saves when it is interrupted or preempted; it needs its batches for that.
    for number in _FOR_MAIN:
        signal.signal(number, _leave_later if number == signal.SIGTERM else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_MAIN)  # blocked in the fork server
    threading.Thread(target=_leave_with_the_main_process, daemon=True).start()


def _leave_later(number: int, frame: FrameType | None) -> None:
    timer = threading.Timer(_GRACE_S, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _leave_with_the_main_process() -> None:
    """torch watches the parent, which is the fork server, and that one lives as long as its workers do."""
    main = multiprocessing.parent_process()
    if main is not None:
        main.join()
        os._exit(1)
