"""What a folder's file system is and what it can do, found out with files that are removed again."""

import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmfound.files import sync

_SHARED = re.compile(r"nfs|lustre|gpfs|beegfs|ceph|afs|cifs|smb|glusterfs|fuse|9p|virtiofs|wekafs|panfs|orangefs|pvfs")
_TICK_S = 0.015  # a clock that ticks more often than this is fine enough


@dataclass(frozen=True)
class Semantics:
    """What was found; a reason where something does not work, None where it does.

    Attributes:
        rename: replacing a file by another in one step: checkpoints need it.
        sync: flushing a file and a folder's names to the disk: checkpoints need it to survive a power cut.
        link: hard links, for the lock on a run folder; there is another way without them.
        lock: advisory locks of whole files.
        coarse_times: whether times of change are whole seconds.
        ahead_s: the clock that stamps files minus this host's.
    """

    rename: str | None
    sync: str | None
    link: str | None
    lock: str | None
    coarse_times: bool
    ahead_s: float


def kind(folder: Path) -> str:
    """Type of the file system of `folder` (ext4, nfs4, lustre, ...), or `unknown`."""
    place, best, found = str(folder.resolve()), -1, "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            mount, _, source = line.partition(" - ")
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), mount.split()[4])
            covers = place == point or place.startswith(point.rstrip("/") + "/")
            if covers and len(point) >= best:  # of two mounts on one point the later one is on top
                best, found = len(point), source.split()[0]
    return found


def is_shared(kind: str) -> bool:
    """Whether other hosts can have it, too."""
    return _SHARED.match(kind) is not None


def now(folder: Path) -> float:
    """Seconds since 1970 by the clock that stamps files there; this host's where nothing can be written."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".mmfound-probe-") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()


def probe(folder: Path) -> Semantics:
    """Try what mmfound needs.

    Raises:
        OSError: where nothing can be written.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".mmfound-probe-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        before = time.time()
        (place / "first").write_text("first")
        after = time.time()
        first = (place / "first").stat().st_mtime_ns
        time.sleep(_TICK_S)
        (place / "second").write_text("second")
        second = (place / "second").stat().st_mtime_ns
        stamped = first / 1e9
        return Semantics(
            rename=_reason(lambda: _rename(place)),
            sync=_reason(lambda: (sync(place / "second"), sync(place))),
            link=_reason(lambda: os.link(place / "second", place / "link")),
            lock=_reason(lambda: _lock(place / "second")),
            coarse_times=first % 10**9 == second % 10**9 == 0,
            ahead_s=0.0 if before - _TICK_S <= stamped <= after + _TICK_S else stamped - (before + after) / 2,
        )


def _reason(action: Callable[[], object]) -> str | None:
    try:
        action()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _rename(place: Path) -> None:
    (place / "new").write_text("new")
    (place / "old").write_text("old")
    with open(place / "old") as reader:
        os.replace(place / "new", place / "old")
        if (place / "old").read_text() != "new" or reader.read() != "old":
            raise OSError("a renamed file does not replace the old one as a whole")


def _lock(path: Path) -> None:
    with open(path, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
