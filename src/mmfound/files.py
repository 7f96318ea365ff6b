"""What has to be on the disk, and not only on its way."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmfound.errors import ConfigError, DiskFullError, user_error


def sync(path: Path) -> None:
    """Make a file, or a folder's names, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell what a disk refuses as what it is: the user's to mend.

    Raises:
        DiskFullError: when there is no room for `path`.
        ConfigError: when it cannot be written where it is to be.
    """
    try:
        yield
    except Exception as error:
        if user_error(error) is not None and not isinstance(error, OSError):
            raise
        if user_error(error) is not None or "No space left" in str(error):  # safetensors' own error
            raise DiskFullError(f"no room to write {path}; make some, and start the same command again") from error
        if isinstance(error, OSError):
            raise ConfigError(f"{path} cannot be written: {error.strerror}; name another place") from error
        raise
