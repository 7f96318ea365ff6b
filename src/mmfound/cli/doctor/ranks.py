"""`mmfound doctor --ranks`: whether all ranks of a job can work together."""

import os
import platform
import socket
import sys
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import mmfound
from mmfound.cli.doctor import measures, verdicts
from mmfound.cli.doctor.meeting import Meeting, limited
from mmfound.cli.doctor.verdicts import Facts, Verdict
from mmfound.errors import ConfigError
from mmfound.runs import filesystem, network, world

_GLOO_BYTES, _NCCL_BYTES = 16 << 20, 256 << 20
_LOCAL_WAIT_S = 3.0  # for a file on a file system that hosts do not share
_GRACE_S = 5.0


def check(folder: Path, data: Path | None, timeout_s: float) -> int:
    """Called by every rank; rank 0 prints what is found.

    Args:
        folder: that runs are written to.
        data: that all ranks must see.
        timeout_s: how long to wait for all, at every point.

    Returns:
        0, or 2 where training would not work; the same on all ranks.
    """
    checkup = Checkup(Meeting(world.from_environment(), timeout_s), folder, data)
    code = checkup.run()
    checkup.meeting.part()
    if checkup.is_stuck:
        sys.stdout.flush()
        os._exit(code)  # a thread that waits for another rank would keep this process
    if dist.is_initialized():
        dist.destroy_process_group()
    return code


class Checkup:
    """The questions, in order. What other ranks answered is known to rank 0 alone.

    Args:
        meeting: of all ranks.
        folder: that runs are written to.
        data: that all ranks must see.

    Attributes:
        is_stuck: whether a question was given up while a thread waits for its answer.
    """

    def __init__(self, meeting: Meeting, folder: Path, data: Path | None) -> None:
        self.meeting, self.folder, self.data = meeting, folder, data
        self.world, self.timeout_s = meeting.world, meeting.timeout_s
        self.is_stuck = False
        self._failed = 0

    def run(self) -> int:
        """All of it; the exit code."""
        facts = self.meeting.gather("here", self._facts())
        self._say(lambda: verdicts.arrived(self.world, facts, self.timeout_s))
        if not self.meeting.tell("all are here", len(facts) == self.world.ranks):
            return ConfigError.exit_code
        self._say(lambda: verdicts.versions(facts))
        reach = self._say(lambda: verdicts.interfaces(facts))
        self._say(lambda: verdicts.devices(facts))
        if self.meeting.tell("hosts can be reached", reach):
            self._talk(facts)
        self._share(facts)
        data = self.data
        if data is not None:
            self._say(lambda: verdicts.data(data, facts))
        return self.meeting.tell("code", ConfigError.exit_code if self._failed else 0)

    def _facts(self) -> dict[str, Any]:
        """What this rank has to say about itself."""
        try:
            wrong = network.check_interfaces()
        except ConfigError as error:
            wrong = str(error)
        return {
            "host": socket.gethostname(),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "mmfound": mmfound.__version__,
            },
            "interfaces": network.described(network.interfaces()),
            "wrong": wrong,
            "gloo": network.gloo_address(),
            "nccl": ", ".join(network.nccl_interfaces()),
            "devices": torch.cuda.device_count(),
            "folder": _place(self.folder),
            "data": measures.look_at(self.data),
        }

    def _say(self, judge: Callable[[], Verdict]) -> bool:
        """Print a verdict on rank 0; whether it is good."""
        if self.world.rank > 0:
            return False
        verdict = judge()
        print(verdict, flush=True)
        self._failed += verdict.state == "FAIL"
        return verdict.state != "FAIL"

    def _talk(self, facts: Facts) -> None:
        """By gloo and, where every rank has a device, by NCCL."""
        if not self._collective("gloo", facts, self._gloo):
            return
        if self.meeting.tell("all have devices", all(fact["devices"] for fact in facts.values())):
            self._collective("NCCL", facts, self._nccl)
        others = self.meeting.tell("first ranks of other hosts", _first_ranks(facts))
        offsets, reason = self._limited(lambda: self._clocks(others))
        self._say(lambda: verdicts.clocks(facts, offsets or {}, reason))

    def _collective(self, name: str, facts: Facts, measure: Callable[[], Any]) -> bool:
        result, reason = self._limited(measure)
        answers = self.meeting.gather(name, {"result": result, "reason": reason}, _GRACE_S)
        return self.meeting.tell(f"{name} works", self._say(lambda: verdicts.collective(name, facts, answers)))

    def _gloo(self) -> dict[str, Any]:
        dist.init_process_group(
            "gloo",
            store=self.meeting.second_store(),
            rank=self.world.rank,
            world_size=self.world.ranks,
            timeout=timedelta(seconds=self.timeout_s),
        )
        return measures.all_reduce(torch.device("cpu"), _everyone(), _GLOO_BYTES)

    def _nccl(self) -> dict[str, Any]:
        os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"  # an error after the time-out, where torch would kill the process
        device = torch.device("cuda", self.world.local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
        group = dist.new_group(backend="nccl", timeout=timedelta(seconds=self.timeout_s))
        assert isinstance(group, dist.ProcessGroup)  # not the one of ranks that are left out
        return measures.all_reduce(device, group, _NCCL_BYTES)

    def _clocks(self, others: list[int]) -> dict[int, tuple[float, float]]:
        offsets = {other: measures.clock(other, self.world.rank, _everyone()) for other in others}
        return {other: offset for other, offset in offsets.items() if offset is not None}

    def _share(self, facts: Facts) -> None:
        """Rank 0 writes a file, and all look for it."""
        plan = self.meeting.tell("file", self._plan(facts))
        path, content, wait_s = self.folder / plan["name"], plan["name"], plan["wait_s"]
        path.exists()  # NFS clients remember that it was not there, as they do of a checkpoint
        self.meeting.gather("looked", None, _GRACE_S)
        reason = self.meeting.tell("written", _written(path, content) if self.world.rank == 0 else None)
        seen = measures.seen_after(path, content, wait_s) if reason is None else None
        answers = self.meeting.gather("seen", seen, _GRACE_S)
        self._say(lambda: verdicts.folder(facts, answers, reason, wait_s))
        if self.world.rank == 0:
            path.unlink(missing_ok=True)

    def _plan(self, facts: Facts) -> dict[str, Any]:
        shared = all(filesystem.is_shared(fact["folder"]["kind"]) for fact in facts.values())
        wait_s = self.timeout_s if shared else min(self.timeout_s, _LOCAL_WAIT_S)
        return {"name": f".mmfound-probe-{uuid.uuid4().hex}", "wait_s": wait_s}

    def _limited(self, action: Callable[[], Any]) -> tuple[Any, str | None]:
        result, reason = limited(action, self.timeout_s + _GRACE_S)
        self.is_stuck |= reason is not None
        return result, reason


def _everyone() -> dist.ProcessGroup:
    group = dist.group.WORLD
    assert group is not None
    return group


def _place(folder: Path) -> dict[str, str | None]:
    """Path, type, and why nothing can be written there."""
    try:
        filesystem.probe(folder)
        closed = None
    except OSError as error:
        closed = error.strerror
    return {"path": str(folder.absolute()), "kind": filesystem.kind(folder), "closed": closed}


def _first_ranks(facts: Facts) -> list[int]:
    """Of every host but rank 0's."""
    first: dict[str, int] = {}
    for rank, fact in facts.items():
        first.setdefault(fact["host"], rank)
    return [rank for rank in first.values() if rank > 0]


def _written(path: Path, content: str) -> str | None:
    """Write it through to the disk; the reason where that fails."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return None
