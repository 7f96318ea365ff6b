"""The working folder of an embedding: parts that are whole or absent."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmfound.embedding.job import refuse_others
from mmfound.errors import ConfigError
from mmfound.files import sync
from mmfound.runs import durable

JOB = "job.json"


@dataclass(frozen=True)
class Part:
    """Samples that belong together.

    Args:
        embedding: [n, E] float32 or float16.
        keys: n of them.
        indices: n, in the source.
        skipped: how many could not be read, by kind.
    """

    embedding: np.ndarray
    keys: list[str]
    indices: list[int]
    skipped: dict[str, int]


class Parts:
    """`FILE.parts/`: the facts of the job and a file per finished part, each with its manifest.

    Args:
        folder: made where it is missing.
        facts: of the job.

    Raises:
        ConfigError: when it holds parts of another job.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        self.ranges = [
            range(start, min(start + facts["part_size"], facts["samples"]))
            for start in range(0, facts["samples"], facts["part_size"])
        ]
        if folder.exists() and not (folder / JOB).is_file() and any(folder.glob("[!.]*")):
            raise ConfigError(f"{folder} is in the way and holds something else; move it, or name another --to.")
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / JOB).is_file():
            way_out = f"go on as before, remove {folder}, or name another --to."
            refuse_others(folder, read_facts(folder / JOB), facts, way_out)
        else:
            write_whole(folder / JOB, lambda file: file.write(as_json(facts)))

    def missing(self, share: durable.Share = durable.WHOLE) -> list[int]:
        """Numbers of the parts that this process of how many has still to make; damaged ones count as missing."""
        mine = range(share[0], len(self.ranges), share[1])
        return [number for number in mine if durable.damage(self._path(number)) is not None]

    def write(self, number: int, part: Part) -> None:
        """Keep a finished part.

        Raises:
            DiskFullError: when there is no room; what was kept before stays.
        """
        facts = {"keys": part.keys, "indices": part.indices, "skipped": part.skipped}
        rows = np.ascontiguousarray(part.embedding)
        durable.write(self._path(number), lambda file: file.write(rows.tobytes()), facts, lambda: None)

    def manifest(self, number: int) -> dict[str, Any]:
        """Keys, indices and skipped of a finished part, without its embeddings."""
        return durable.manifest(self._path(number))

    def read(self, number: int, dtype: str) -> Part:
        """A finished part."""
        facts = self.manifest(number)
        rows = np.fromfile(self._path(number), dtype=dtype)
        count = len(facts["keys"])
        return Part(rows.reshape(count, -1 if count else 0), facts["keys"], facts["indices"], facts["skipped"])

    def everything(self, dtype: str) -> Iterator[Part]:
        """All parts in order, one at a time."""
        return (self.read(number, dtype) for number in range(len(self.ranges)))

    def wait(self, poll_s: float = 0.5) -> None:
        """Until the other processes have finished their parts; a launcher ends all when one has failed."""
        for number in range(len(self.ranges)):
            while durable.damage(self._path(number)) is not None:
                time.sleep(poll_s)

    def remove(self) -> None:
        """Of no use any more; what says whose they are goes last, as a kill may come in between."""
        for path in self.folder.iterdir():
            if path.name != JOB:
                path.unlink()
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.part"


def read_facts(path: Path) -> dict[str, Any]:
    """What a JSON file of facts holds.

    Raises:
        ConfigError: when it is damaged.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); remove it and embed again.") from error
    if not isinstance(facts, dict):
        raise ConfigError(f"{path} holds no facts about embeddings; name another file.")
    return facts


def as_json(facts: Mapping[str, Any]) -> bytes:
    """What `read_facts` reads."""
    return json.dumps(facts, indent=1).encode()


def write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file that is there whole or not at all.

    Args:
        path: where to.
        fill: writes the contents to the file it is given.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)
