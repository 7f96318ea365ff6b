"""What ranks find out together: sums, times, clocks and files. Every function is called by all ranks."""

import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

_ROUNDS, _LARGE_ROUNDS, _PINGS = 20, 3, 10
_POLL_S = 0.005


def all_reduce(device: torch.device, group: dist.ProcessGroup, large_bytes: int) -> dict[str, Any]:
    """Whether a sum over ranks is right, seconds of a small one, and bytes per second of a large one."""
    ranks = dist.get_world_size(group)
    mine = torch.full((1,), dist.get_rank(group) + 1.0, device=device)
    dist.all_reduce(mine, group=group)
    small = [_seconds(torch.ones(1, device=device), group) for _ in range(_ROUNDS)]
    large = torch.ones(large_bytes // 4, device=device)
    seconds = [_seconds(large, group) for _ in range(_LARGE_ROUNDS)]
    return {
        "right": mine.item() == ranks * (ranks + 1) / 2,
        "latency_s": statistics.median(small),
        "bytes": large_bytes,
        "bytes_per_s": large_bytes / min(seconds),
    }


def clock(other: int, rank: int, group: dist.ProcessGroup) -> tuple[float, float] | None:
    """On rank 0: seconds that the clock of `other` is ahead of this one's, and how far that may be off.

    The quickest of ten exchanges; half its round trip is the uncertainty. None on the other ranks.
    """
    if rank not in (0, other):
        return None
    times: list[tuple[float, float]] = []
    for _ in range(_PINGS):
        said = torch.zeros(1, dtype=torch.float64)
        if rank == other:
            dist.recv(said, 0, group=group)
            dist.send(torch.tensor([time.time()], dtype=torch.float64), 0, group=group)
            continue
        before, started = time.time(), time.monotonic()
        dist.send(said, other, group=group)
        dist.recv(said, other, group=group)
        trip = time.monotonic() - started
        times.append((trip / 2, said.item() - (before + trip / 2)))
    if rank == other:
        return None
    uncertain, ahead = min(times)
    return ahead, uncertain


def seen_after(path: Path, content: str, limit_s: float) -> float | None:
    """Seconds until a file of another rank is there with its content; None when it does not come."""
    started = time.monotonic()
    while time.monotonic() - started < limit_s:
        try:
            if path.read_text(encoding="utf-8") == content:
                return time.monotonic() - started
        except OSError:
            pass
        time.sleep(_POLL_S)
    return None


def look_at(path: Path | None) -> str | None:
    """Size of a file or number of entries of a folder, in words; None when it is not there."""
    try:
        if path is None:
            return None
        return f"{len(os.listdir(path))} entries" if path.is_dir() else f"{path.stat().st_size} bytes"
    except OSError:
        return None


def _seconds(x: torch.Tensor, group: dist.ProcessGroup) -> float:
    dist.barrier(group=group)
    _wait(x.device)
    started = time.perf_counter()
    dist.all_reduce(x, group=group)
    _wait(x.device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
