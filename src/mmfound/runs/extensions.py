"""C++ extensions that torch compiles when they are first used, DeepSpeed's CPU optimisers among them.

Older versions of torch mark a build by a file named `lock`. A process that is killed while it builds leaves the file,
and every later start waits for it without a word. Newer ones lock the file instead, which ends with the process; there
the file stays after every build and means nothing.
"""

import contextlib
import fcntl
import os
import re
import shutil
import sys
import sysconfig
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mmfound.runs import filesystem

LOCK = "lock"
_VARIABLE = "TORCH_EXTENSIONS_DIR"
_NINJA = Path(sys.executable).parent / "ninja"  # of the environment, whose folder may not be on PATH
_QUIET_S = 60.0
_QUIET_SHARED_S = 900.0  # another host may compile, whose processes are not seen, and one CUDA file takes minutes
_COMPILERS = re.compile(r"ninja|c\+\+|g\+\+|gcc|clang|cc1plus|nvcc|cicc|ptxas|cudafe|fatbinary|collect2|ld$|as$|python")


@dataclass(frozen=True)
class BuildLock:
    """A `lock` file in the folder of an extension.

    Attributes:
        path: the file.
        age_s: since it was made, by the clock of its file system.
        quiet_s: since anything in its folder was written.
        builders: processes of this host that build there, as `ninja (process 12)`.
        is_stale: whether nobody builds there any more.
    """

    path: Path
    age_s: float
    quiet_s: float
    builders: list[str]
    is_stale: bool


def folder() -> Path:
    """Where what torch compiles is put: in the virtual environment that it is compiled for, if there is one."""
    given = os.environ.get(_VARIABLE)
    if given:
        return Path(given).absolute()
    if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
        return Path(sys.prefix) / "torch_extensions"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().resolve() / "torch_extensions"


def prepare() -> list[Path]:
    """Let torch compile there, with the environment's own ninja; stale locks are removed, and returned."""
    os.environ[_VARIABLE] = str(folder())
    if shutil.which("ninja") is None:
        os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), str(_NINJA.parent)])
    return clear_stale_locks()


def locks() -> list[BuildLock]:
    """Every lock that this torch would wait for, with who builds there."""
    if not waits_for_files():
        return []
    paths = sorted(path for pattern in (f"*/{LOCK}", f"*/*/{LOCK}") for path in folder().glob(pattern))
    if not paths:
        return []
    now, shared = filesystem.now(folder()), filesystem.is_shared(filesystem.kind(folder()))
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # the build has just ended
            found.append(_look_at(path, now, _QUIET_SHARED_S if shared else _QUIET_S))
    return found


def stale_locks() -> list[Path]:
    """Locks of builds that no process of this host works on any more: every later start would hang at them."""
    return [lock.path for lock in locks() if lock.is_stale]


def clear_stale_locks() -> list[Path]:
    """Remove them, and return which; the extension is then compiled anew. Safe to call from several processes."""
    return [path for path in stale_locks() if _remove(path)]


def missing_compiler() -> str | None:
    """What has to be installed before torch can compile an extension; None when all is there."""
    missing = []
    compiler = os.environ.get("CXX") or "c++"
    if shutil.which(compiler) is None:
        set_to = f" (CXX is {compiler!r}, which is not found)" if "CXX" in os.environ else ""
        missing.append(f"a C++ compiler{set_to}: apt-get install g++")
    if shutil.which("ninja") is None and not _NINJA.is_file():
        missing.append("ninja: pip install ninja, or apt-get install ninja-build")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append("Python.h: apt-get install python3-dev, of this Python's version")
    return "; ".join(missing) or None


def waits_for_files() -> bool:
    """Whether the installed torch takes a file named `lock` for a running build."""
    spec = find_spec("torch")
    for place in (spec.submodule_search_locations or []) if spec else []:
        with contextlib.suppress(OSError):
            return "FileBaton(" in (Path(place) / "utils" / "cpp_extension.py").read_text(encoding="utf-8")
    return False


def _look_at(path: Path, now: float, patience_s: float) -> BuildLock:
    status = path.stat()
    newest = max(_mtimes(path.parent), default=status.st_mtime)
    quiet_s = now - max(newest, status.st_mtime)
    builders = _builders(path.parent)
    mine = status.st_uid == os.getuid()  # of another user's processes it cannot be seen what they have open
    is_stale = mine and quiet_s > patience_s and not builders and not _is_held(path)
    return BuildLock(path, now - status.st_mtime, quiet_s, builders, is_stale)


def _mtimes(place: Path) -> list[float]:
    with os.scandir(place) as entries:
        return [entry.stat().st_mtime for entry in entries if entry.is_file()]


def _builders(place: Path) -> list[str]:
    """Processes that have a file open there (torch keeps the lock open), and compilers that work there."""
    inside = f"{place.resolve()}{os.sep}"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended, or another user's
            name = (process / "comm").read_text().strip()
            works_there = _COMPILERS.match(name) and f"{os.readlink(process / 'cwd')}{os.sep}".startswith(inside)
            if works_there or _has_open(process, inside):
                found.append(f"{name} (process {process.name})")
    return found


def _has_open(process: Path, inside: str) -> bool:
    for handle in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(handle).startswith(inside):
                return True
    return False


def _is_held(path: Path) -> bool:
    """Whether a process of a newer torch holds the lock, on any host where the file system passes locks on."""
    with contextlib.suppress(PermissionError), open(path, "rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def _remove(path: Path) -> bool:
    """Rename first, so that of two processes that found it stale neither removes the lock of a build begun since."""
    aside = path.with_name(f".{LOCK}.{os.getpid()}.{time.time_ns()}")
    try:
        os.rename(path, aside)
        if filesystem.now(path.parent) - aside.stat().st_mtime < _QUIET_S:
            os.rename(aside, path)
            return False
        aside.unlink()
    except OSError:
        return False
    return True
