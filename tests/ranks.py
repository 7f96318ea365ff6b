"""Run a function on several gloo processes."""

import importlib.util
import inspect
import os
import socket
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from tests.forked import server


def run_on_ranks(ranks: int, function: Callable[..., Any], *args: Any, timeout_s: float = 120) -> list[Any]:
    """Call `function(*args)` on every rank of a gloo group of new processes.

    They are forked from a server that has only imported what takes seconds, and have the caller's environment.

    Args:
        ranks: number of processes, with one thread and seed 0 each.
        function: defined at the top level of its file, which the processes load by path.
        args: picklable.
        timeout_s: the longest that a collective waits for the other ranks.

    Returns:
        What each rank returned, in rank order (picklable; detached tensors travel by value).

    Raises:
        torch.multiprocessing.ProcessRaisedException: with the traceback of the rank that failed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = server().SimpleQueue()
    place = (inspect.getfile(function), function.__qualname__)
    given = (dict(os.environ), ranks, port, place, args, timeout_s, results)
    context = mp.start_processes(_run, given, nprocs=ranks, join=False, start_method="forkserver")
    assert context is not None
    by_rank = {}
    while not context.join(timeout=0.02):
        while not results.empty():
            by_rank.update([results.get()])
    while not results.empty():
        by_rank.update([results.get()])
    return [by_rank[rank] for rank in range(ranks)]


def _run(
    rank: int,
    environment: dict[str, str],
    ranks: int,
    port: int,
    place: tuple[str, str],
    args: tuple,
    timeout_s: float,
    results: Any,
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    os.environ.clear()
    os.environ.update(environment)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    rank_zero_only.rank = rank  # Lightning has taken it from the server's environment
    dist.init_process_group("gloo", rank=rank, world_size=ranks, timeout=timedelta(seconds=timeout_s))
    try:
        value = _load(*place)(*args)
        results.put((rank, torch.utils._pytree.tree_map(_by_value, value)))
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _by_value(value: Any) -> Any:
    """Tensors as arrays: shared-memory tensors vanish with the process that made them."""
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def _load(path: str, name: str) -> Callable[..., Any]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    spec = importlib.util.spec_from_file_location("ranked", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)
