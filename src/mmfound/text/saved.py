"""The file a tokenizer is saved in: JSON that says what it is."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmfound.errors import ConfigError

FILE = "tokenizer.json"


def write_saved(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `folder/tokenizer.json`, whole or not at all.

    Args:
        folder: made where it is missing.
        content: JSON-able; "tokenizer" is the name of the class.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{FILE}.{os.getpid()}"
    try:
        with open(unfinished, "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, folder / FILE)
    finally:
        unfinished.unlink(missing_ok=True)


def read_saved(path: Path) -> dict[str, Any]:
    """What `write_saved` wrote.

    Args:
        path: the file, not its folder.

    Raises:
        ConfigError: when it is missing, damaged, or no tokenizer of ours.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no tokenizer at {path}: train the stage that writes it first, or name its folder") from None
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): export it again, or restore it from the run folder") from error
    if not isinstance(content, dict) or "tokenizer" not in content:
        raise ConfigError(f"{path} was not written by an mmfound tokenizer (it has no 'tokenizer' key)")
    return content
