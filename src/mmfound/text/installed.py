"""Files and tables that installed packages bring along, found without importing the packages."""

import runpy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmfound.errors import ConfigError


def open_clip_file(name: str, otherwise: str) -> Path:
    """Path of a file inside the installed open_clip package.

    Args:
        name: file name in the package's folder.
        otherwise: what the user can do without the package, for the message.

    Raises:
        ConfigError: when the package is not installed or lacks the file.
    """
    spec = find_spec("open_clip")  # does not import a top-level package
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"{name} is read from the package open_clip_torch, which is not installed: "
            f"pip install 'mmfound[pretrained]', or {otherwise}"
        )
    path = Path(spec.origin).parent / name
    if not path.is_file():
        raise ConfigError(f"{name} is missing from the installed open_clip ({path.parent}): {otherwise}")
    return path


def open_clip_table(name: str, otherwise: str) -> Any:
    """A constant of open_clip's `zero_shot_metadata.py` (templates or class names of ImageNet)."""
    tables = runpy.run_path(str(open_clip_file("zero_shot_metadata.py", otherwise)))  # that file imports nothing
    if name not in tables:
        raise ConfigError(f"{name} is missing from the installed open_clip's zero_shot_metadata.py: {otherwise}")
    return tables[name]
