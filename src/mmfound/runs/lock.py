"""One training process per run folder."""

import getpass
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from mmfound.errors import LockedError

NAME = "run.lock"
_BEAT_S, _STALE_S = 20.0, 180.0


class Lock:
    """A file in the run folder that names its owner and is touched while the owner lives.

    It is made by a hard link, which is atomic on NFS too. An owner is gone when its process is gone from this host,
    when it ran in an earlier start of this same Slurm or torchrun job or before this host was started, or when it has
    not touched the file for three minutes by the file system's own clock.

    Args:
        run: the run folder.
        stale_s: seconds without a touch after which an owner on another host counts as dead.
    """

    def __init__(self, run: Path, stale_s: float = _STALE_S) -> None:
        self.path = run / NAME
        self.stale_s = stale_s
        self._mine: dict[str, Any] = {}
        self._seen_at = 0.0  # when it was ours, by this process's clock
        self._over = threading.Event()

    def acquire(self) -> "Lock":
        """Take it, from a dead owner too.

        Raises:
            LockedError: naming the owner.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._mine = _me()
        for _ in range(3):  # another process may take over the same dead lock
            if self._link():
                self._seen_at = time.monotonic()
                threading.Thread(target=self._beat, daemon=True, name="run lock").start()
                return self
            owner = read(self.path)
            if owner and not self._is_dead(owner):
                raise LockedError(
                    f"{self.path.parent} is in use by process {owner['pid']} on {owner['host']} ({owner['user']}, "
                    f"since {owner['since']}); wait for it, stop it, or name another --run_dir"
                )
            self._put_aside(owner)
        raise LockedError(f"{self.path} cannot be taken; remove it if no process trains in {self.path.parent}")

    def lost(self) -> LockedError | None:
        """The error to end with when another process has taken it: this one may have stood still for minutes.

        Looked up every 20 seconds at most, of the three minutes that it takes to count as dead: it may be asked at
        every step.
        """
        now = time.monotonic()
        if now - self._seen_at < _BEAT_S:
            return None
        owner = read(self.path)
        if owner and owner != self._mine:
            return LockedError(
                f"{self.path.parent} was taken over by process {owner['pid']} on {owner['host']} ({owner['user']}, "
                f"since {owner['since']}) while this one gave no sign of life; it writes nothing more"
            )
        self._seen_at = now
        return None

    def release(self) -> None:
        """Give it back, if it is still ours."""
        self._over.set()
        if read(self.path) == self._mine:
            self.path.unlink(missing_ok=True)

    def _link(self) -> bool:
        own = self.path.with_name(f".{NAME}.{self._mine['host']}.{self._mine['pid']}")
        own.write_text(json.dumps(self._mine), encoding="utf-8")
        try:
            os.link(own, self.path)
            return True
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            try:
                with open(self.path, "x", encoding="utf-8") as file:
                    file.write(json.dumps(self._mine))
                return True
            except FileExistsError:
                return False
        finally:
            own.unlink(missing_ok=True)

    def _is_dead(self, owner: dict[str, Any]) -> bool:
        if owner["job"] and owner["job"] == self._mine["job"] and owner["restarts"] < self._mine["restarts"]:
            return True  # its launcher has given it up; a process that lingers finds out by `lost`
        if owner["host"] == self._mine["host"] and owner["boot"] == self._mine["boot"]:
            return _started(owner["pid"]) != owner["started"]
        untouched_s = self._untouched_s()
        before_boot = owner["host"] == self._mine["host"] and untouched_s > _uptime_s()
        return before_boot or untouched_s > self.stale_s

    def _untouched_s(self) -> float:
        """By the clock of the file system, which hosts may not share."""
        probe = self.path.with_name(f".{NAME}.{self._mine['host']}.{self._mine['pid']}.now")
        try:
            probe.touch()
            return probe.stat().st_mtime - self.path.stat().st_mtime
        except FileNotFoundError:
            return float("inf")
        finally:
            probe.unlink(missing_ok=True)

    def _put_aside(self, owner: dict[str, Any]) -> None:
        """Rename, so that of two that found it dead only one removes it, and never a live one's."""
        aside = self.path.with_name(f".{NAME}.dead.{self._mine['host']}.{self._mine['pid']}")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if read(aside) != owner:  # somebody else took it over in between
            os.rename(aside, self.path)
            return
        aside.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._over.wait(_BEAT_S):
            try:
                if read(self.path) == self._mine:
                    os.utime(self.path)
            except OSError:
                continue  # a file server that is away for a moment


def read(path: Path) -> dict[str, Any]:
    """The owner that a lock names; empty when there is none, or it is unreadable."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) and _me().keys() <= owner.keys() else {}


def _me() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "started": _started(pid),
        "boot": _text(Path("/proc/sys/kernel/random/boot_id")),
        "user": _user(),
        "job": os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID", "").removeprefix("none"),
        "restarts": [int(os.environ.get(f"{name}_RESTART_COUNT") or 0) for name in ("SLURM", "TORCHELASTIC")],
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _started(pid: int) -> str:
    """When a process of this host began, in clock ticks since boot; empty when there is none, or a zombie."""
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return fields[19] if fields and fields[0] != "Z" else ""


def _uptime_s() -> float:
    """Seconds since this host was started; infinite where it does not tell."""
    return float((_text(Path("/proc/uptime")).split() or ["inf"])[0])


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
