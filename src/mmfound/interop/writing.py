"""How weights for other libraries get onto the disk."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from mmfound.files import sync, writing
from mmfound.models import DualEncoder


def whole(to: Path, write_to: Callable[[Path], None]) -> None:
    """Under another name first: all of it is there, or nothing.

    Raises:
        DiskFullError: when there is no room.
        ConfigError: when nothing can be written there.
    """
    with writing(to):
        _whole(to, write_to)


def _whole(to: Path, write_to: Callable[[Path], None]) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    new = to.with_name(f".{to.name}.new.{os.getpid()}")
    try:
        write_to(new)
        for path in [*new.iterdir(), new] if new.is_dir() else [new]:
            sync(path)
        if to.is_dir():
            to.rmdir()
        new.rename(to)
        sync(to.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        new.unlink(missing_ok=True)


def state_of(encoder: DualEncoder) -> dict[str, Tensor]:
    """All weights, on the CPU."""
    return {name: value.detach().cpu() for name, value in encoder.state_dict().items()}


def save(state: Mapping[str, Tensor], path: Path) -> None:
    """As safetensors, each tensor on its own."""
    save_file({name: value.clone().contiguous() for name, value in state.items()}, path, metadata={"format": "pt"})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """As people read it."""
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
