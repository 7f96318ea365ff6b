"""Files that are whole or absent, whatever happens while they are written, and a manifest that proves it later.

A file is written under a temporary name beside its own (another file system would turn the rename into a copy), flushed
to the disk and renamed. Its manifest, `NAME.manifest.json`, is on the disk before it, so that a file without one was
not written here.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mmfound.errors import FULL, DiskFullError
from mmfound.files import sync

_MARK, _ASIDE, _MANIFEST = ".partial", ".aside", ".manifest.json"


class Hashing:
    """A binary file that knows the size and SHA-256 of what it was given, and the error that writing met."""

    def __init__(self, file: BinaryIO) -> None:
        self.size = 0
        self.error: OSError | None = None
        self._file, self._hash = file, hashlib.sha256()

    def write(self, data: Any) -> int:
        """Append."""
        data = memoryview(data)
        try:
            self._file.write(data)
        except OSError as error:
            self.error = error  # torch replaces it by one that does not say what went wrong
            raise
        self._hash.update(data)
        self.size += data.nbytes
        return data.nbytes

    def flush(self) -> None:
        """Hand everything to the system."""
        self._file.flush()

    def digest(self) -> str:
        """SHA-256 so far, in hexadecimal."""
        return self._hash.hexdigest()


def write(path: Path, fill: Callable[[Any], None], facts: Mapping[str, Any], before: Callable[[], None]) -> None:
    """Write a file and its manifest; what has its name and its manifest is whole at every instant.

    Args:
        path: where to.
        fill: writes the contents to the file object it is given.
        facts: kept in the manifest beside size and hash.
        before: called when the contents are safe and only the names are missing.

    Raises:
        DiskFullError: when there is no room; nothing is left behind then.
    """
    partial, proof = (found.with_name(f".{found.name}.{os.getpid()}{_MARK}") for found in (path, _manifest_path(path)))
    hashing: Hashing | None = None
    try:
        with open(partial, "wb") as file:
            hashing = Hashing(file)
            fill(hashing)
            file.flush()
            os.fsync(file.fileno())
        _write_manifest(proof, {"file": path.name, "bytes": hashing.size, "sha256": hashing.digest(), **facts})
        before()
        _put_aside(path)
        os.replace(proof, _manifest_path(path))
        os.replace(partial, path)
        sync(path.parent)
        remove(_aside(path))
    except Exception as error:
        met = error if hashing is None or hashing.error is None else hashing.error
        if isinstance(met, OSError) and met.errno in FULL:
            raise DiskFullError(
                f"no room to write {path}: {met.strerror}; what was saved before is untouched. Make some, and start "
                "the same command again"
            ) from error
        raise
    finally:
        partial.unlink(missing_ok=True)
        proof.unlink(missing_ok=True)


def manifest(path: Path) -> dict[str, Any]:
    """What is known of a file; empty when it has no readable manifest."""
    try:
        found = json.loads(_manifest_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def damage(path: Path) -> str | None:
    """Why a file cannot be trusted, or None when it is byte for byte what was written."""
    expected = manifest(path)
    if not {"bytes", "sha256"} <= expected.keys():
        return "its manifest is missing or unreadable"
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"{size} bytes long instead of {expected['bytes']}"
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if found == expected["sha256"] else "its contents have changed (SHA-256 differs from the manifest)"


def remove(path: Path) -> None:
    """Remove a file and then its manifest, so that a kill in between leaves no file without one."""
    path.unlink(missing_ok=True)
    _manifest_path(path).unlink(missing_ok=True)


def sweep(folder: Path) -> list[Path]:
    """Remove what kills have left behind: partial files, and manifests without a file. Only for the folder's owner.

    A file that was put aside for another one of its name comes back if that one did not get there.
    """
    for old in folder.glob(f".*{_ASIDE}"):
        path = old.with_name(old.name[1:].removesuffix(_ASIDE))
        if not path.exists():
            if _manifest_path(old).exists():
                os.replace(_manifest_path(old), _manifest_path(path))
            os.replace(old, path)
        remove(old)
    stray = list(folder.glob(f".*{_MARK}"))
    for path in folder.glob(f"*{_MANIFEST}"):
        if not path.with_name(path.name.removesuffix(_MANIFEST)).exists():
            stray.append(path)
    for path in stray:
        path.unlink(missing_ok=True)
    return stray


def _manifest_path(path: Path) -> Path:
    return path.with_name(path.name + _MANIFEST)


def _write_manifest(path: Path, facts: Mapping[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(facts, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}{_ASIDE}")


def _put_aside(path: Path) -> None:
    """Keep what has this name until the new contents have it: they may be another timeline's, or better."""
    if path.exists():
        if _manifest_path(path).exists():
            shutil.copyfile(_manifest_path(path), _manifest_path(_aside(path)))
        os.replace(path, _aside(path))
