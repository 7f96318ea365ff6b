"""What tests of `generate` read of what it has written."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmfound.generating.files import facts_of

RED = ("--prompt", "a red square")


def read(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def facts(path: str) -> dict[str, Any]:
    found = facts_of(Path(path))
    assert found is not None
    return found


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
