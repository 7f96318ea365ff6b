"""The file a tokenizer is saved in: JSON that says what it is."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from mmfound.errors import ConfigError

FILE = "tokenizer.json"
KEYS = {
    "ClipBpe": {"context", "exact", "merges"},
    "FileTokenizer": {"context", "clean", "model"},
    "TrainedBpe": {"vocab_size", "context", "bpe"},
}


class Saves(Protocol):
    """A tokenizer."""

    def save(self, folder: Path) -> None:
        """Write `folder/tokenizer.json`."""
        ...


def write_saved(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `folder/tokenizer.json`, whole or not at all.

    Args:
        folder: made where it is missing.
        content: JSON-able; "tokenizer" is the name of the class, the others are those of `KEYS`.
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
        ConfigError: when it is missing, damaged or of an unknown kind.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no tokenizer at {path}: train the stage that writes it first, or name its folder") from None
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): export it again, or restore it from the run folder") from error
    kind = content.get("tokenizer") if isinstance(content, dict) else None
    if kind not in KEYS:
        raise ConfigError(f"{path} holds no tokenizer of mmfound (kind {kind!r}); known are {sorted(KEYS)}")
    if missing := KEYS[kind] - content.keys():
        raise ConfigError(f"{path} is damaged: it lacks {sorted(missing)}; export it again")
    return content


def content_of(tokenizer: Saves) -> dict[str, Any]:
    """What a tokenizer would save, for comparing two."""
    with TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        return read_saved(Path(folder) / FILE)
