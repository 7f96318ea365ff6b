"""Remote shards, kept in a local folder of bounded size."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import fsspec

from mmfound.data.errors import BadSample
from mmfound.errors import DataError


def is_remote(url: str) -> bool:
    """Whether fsspec has to fetch it: `s3://`, `gs://`, `https://`, ..."""
    return "://" in url and not url.startswith("file://")


class ShardCache:
    """Whole remote files in a local folder; the least recently used go when it is full.

    Args:
        folder: where they are kept.
        max_bytes: size above which files are removed, never those fetched last.
    """

    def __init__(self, folder: Path, max_bytes: int = 50 * 2**30) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def local(self, url: str) -> Path:
        """The local copy of a remote file, fetched when it is not there.

        Raises:
            BadSample: when it cannot be fetched now.
        """
        place = self.folder / f"{blake2b(url.encode(), digest_size=12).hexdigest()}.tar"
        with suppress(FileNotFoundError):
            os.utime(place)
            return place
        try:
            self._fetch(url, place)
        except Exception as error:  # each file system raises its own kinds
            raise BadSample("not fetched", f"{type(error).__name__}: {error}", url) from error
        self._make_room(place)
        return place

    def _fetch(self, url: str, place: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with _written_whole(place) as part, fsspec.open(url, "rb") as remote, open(part, "wb") as file:
            while chunk := remote.read(2**22):  # pyright: ignore[reportAttributeAccessIssue]
                file.write(chunk)

    def _make_room(self, newest: Path) -> None:
        files = []
        for path in self.folder.glob("*.tar"):
            with suppress(FileNotFoundError):  # another process is making room too
                state = path.stat()
                files.append((state.st_mtime, path, state.st_size))
        size = sum(bytes_taken for _, _, bytes_taken in files)
        for _, path, bytes_taken in sorted(files):
            if size <= self.max_bytes or path == newest:
                continue
            size -= bytes_taken
            path.unlink(missing_ok=True)  # a process that has it open reads on


@contextmanager
def _written_whole(place: Path) -> Iterator[str]:
    """A temporary name that becomes `place` when the block ends well."""
    handle, part = tempfile.mkstemp(dir=place.parent, suffix=".part")
    os.close(handle)
    try:
        yield part
        os.replace(part, place)
    except BaseException:
        os.unlink(part)
        raise


def listed(url: str) -> list[str]:
    """The remote files that a pattern matches, in order; the url itself without a pattern.

    Raises:
        DataError: when the place cannot be read.
    """
    if not any(mark in url for mark in "*?["):
        return [url]
    try:
        system, path = fsspec.core.url_to_fs(url)
        return [system.unstrip_protocol(found) for found in sorted(system.glob(path))]
    except Exception as error:  # each file system raises its own kinds
        raise DataError(f"cannot list {url}: {type(error).__name__}: {error}. Check the address and rights.") from error
