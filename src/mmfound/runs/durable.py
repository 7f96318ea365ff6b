"""Files and folders that are whole or absent, whatever happens while they are written, and a manifest that proves it.

A file is written under a temporary name beside its own (another file system would turn the rename into a copy), flushed
to the disk and renamed. Its manifest, `NAME.manifest.json`, is on the disk before it, so that a file without one was
not written here. A folder, which several ranks fill, has one manifest beside it for all its files.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mmfound.errors import FULL, DiskFullError
from mmfound.files import sync

Share = tuple[int, int]
WHOLE: Share = (0, 1)
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
        _rename(partial, proof, path)
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


def partial_folder(path: Path) -> Path:
    """Where all ranks write a folder that is to become `path`."""
    return path.with_name(f".{path.name}{_MARK}")


def proof_of(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files in a folder by name, each flushed to the disk."""
    found = {}
    for name in names:
        sync(folder / name)
        with open(folder / name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[name] = {"bytes": (folder / name).stat().st_size, "sha256": digest}
    return found


def files_in(folder: Path) -> list[str]:
    """Names of all files below a folder, relative to it, in order."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def name_folder(path: Path, files: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    """Give a filled `partial_folder` its name, with its manifest.

    Args:
        path: its name.
        files: the `proof_of` all files in it.
        facts: kept in the manifest beside them.
    """
    partial = partial_folder(path)
    proof = _manifest_path(path).with_name(f".{path.name}{_MANIFEST}{_MARK}")
    for folder in (partial, *(found for found in partial.rglob("*") if found.is_dir())):
        sync(folder)
    _write_manifest(proof, {"folder": path.name, "bytes": total_bytes(files), "files": dict(files), **facts})
    _rename(partial, proof, path)


def total_bytes(files: Mapping[str, Mapping[str, Any]]) -> int:
    """Of the files that a `proof_of` lists."""
    return sum(file["bytes"] for file in files.values())


def manifest(path: Path) -> dict[str, Any]:
    """What is known of a file; empty when it has no readable manifest."""
    try:
        found = json.loads(_manifest_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def damage(path: Path, share: Share = WHOLE) -> str | None:
    """Why a file or folder cannot be trusted, or None when it is byte for byte what was written.

    Args:
        path: which.
        share: this process of how many that look, each at all names and sizes, and at its part of a folder's contents.
    """
    expected = manifest(path)
    if "files" in expected:
        return _damage_of_folder(path, expected["files"], share)
    if not {"bytes", "sha256"} <= expected.keys():
        return "its manifest is missing or unreadable"
    return _damage_of_file(path, expected, True)


def _damage_of_folder(path: Path, files: Mapping[str, Mapping[str, Any]], share: Share) -> str | None:
    if not path.is_dir():
        return "its manifest is that of a folder, and it is none"
    extra = sorted(set(files_in(path)) - files.keys())
    if extra:
        return f"it holds {extra[0]}, which its manifest does not name"
    mine = set(sorted(files)[share[0] :: share[1]])
    reasons = ((name, _damage_of_file(path / name, expected, name in mine)) for name, expected in files.items())
    return next((f"{name}: {reason}" for name, reason in reasons if reason is not None), None)


def _damage_of_file(path: Path, expected: Mapping[str, Any], contents: bool) -> str | None:
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            return f"{size} bytes long instead of {expected['bytes']}"
        if not contents:
            return None
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if found == expected["sha256"] else "its contents have changed (SHA-256 differs from the manifest)"


def remove(path: Path) -> None:
    """Remove a file or folder and then its manifest, so that a kill in between leaves none without one."""
    if path.is_dir() and not path.is_symlink():
        going = partial_folder(path)
        shutil.rmtree(going, ignore_errors=True)
        os.replace(path, going)  # a kill may come while its files are removed one by one
        shutil.rmtree(going, ignore_errors=True)
    else:
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
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
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


def _rename(partial: Path, proof: Path, path: Path) -> None:
    _put_aside(path)
    os.replace(proof, _manifest_path(path))
    os.replace(partial, path)
    sync(path.parent)
    remove(_aside(path))


def _put_aside(path: Path) -> None:
    """Keep what has this name until the new contents have it: they may be another timeline's, or better."""
    if path.exists():
        if _manifest_path(path).exists():
            shutil.copyfile(_manifest_path(path), _manifest_path(_aside(path)))
        os.replace(path, _aside(path))
