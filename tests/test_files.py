"""What a disk refuses."""

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from mmfound.errors import ConfigError, DataError, DiskFullError
from mmfound.files import writing

TOLD = [
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), DiskFullError, "no room to write there"),
    (SafetensorError("I/O error: No space left on device (os error 28)"), DiskFullError, "no room to write there"),
    (OSError(errno.EROFS, os.strerror(errno.EROFS)), ConfigError, "there cannot be written: Read-only"),
    (DataError("mine"), DataError, "^mine$"),
    (SafetensorError("a bug"), SafetensorError, "a bug"),
]


@pytest.mark.parametrize(("error", "kind", "message"), TOLD)
def test_what_the_disk_refuses_is_the_users_to_mend(error: Exception, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message), writing(Path("there")):
        raise error
