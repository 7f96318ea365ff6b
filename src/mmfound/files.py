"""What has to be on the disk, and not only on its way."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Make a file, or a folder's names, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
