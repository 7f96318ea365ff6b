"""Finished parts to one file, a part in memory at a time."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmfound.data.sources.table import pyarrow_for
from mmfound.embedding.parts import Parts, as_json, write_whole
from mmfound.errors import FULL, ConfigError, DataError, DiskFullError

META = b"mmfound"  # key of the facts in a Parquet file's schema


def target(to: str) -> Path:
    """The file that `--to` names: a .parquet, a .npy, or `embeddings.npy` in a folder.

    Raises:
        ConfigError: for another kind of file, and for Parquet without pyarrow.
    """
    path = Path(to)
    if path.is_dir() or not path.suffix:
        return path / "embeddings.npy"
    if path.suffix not in (".parquet", ".npy"):
        raise ConfigError(f"--to {to} ends in {path.suffix!r}; name a .parquet or .npy file, or a folder.")
    if path.suffix == ".parquet":
        try:
            pyarrow_for(f"--to {to}")
        except ConfigError as error:
            raise ConfigError(f"{error}, or name a .npy file, which needs none.") from None
    return path


def facts_path(path: Path) -> Path:
    """Where the facts of a .npy file lie."""
    return path.with_suffix(".json")


def keys_path(path: Path) -> Path:
    """Where the keys of a .npy file lie, one a line."""
    return path.with_suffix(".keys.txt")


def join(parts: Parts, facts: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Write the file that all parts make; it has its name when it is whole.

    Returns:
        Its facts: those given, and what the parts know.

    Raises:
        DataError: when no sample could be read.
        DiskFullError: when there is no room; the parts stay.
    """
    found = {**facts, **_counted(parts, facts)}
    write = _write_parquet if path.suffix == ".parquet" else _write_npy
    try:
        write(parts, found, path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise DiskFullError(
            f"no room to write {path}: {error.strerror}; all embeddings are in {parts.folder}. Make some, and start "
            "the same command again."
        ) from error
    return found


def _counted(parts: Parts, facts: Mapping[str, Any]) -> dict[str, Any]:
    rows, width, skipped, left_out = 0, 0, Counter[str](), []
    for number, indices in enumerate(parts.ranges):
        manifest = parts.manifest(number)
        here = len(manifest["keys"])
        rows += here
        width = width or (manifest["bytes"] // here // np.dtype(facts["dtype"]).itemsize if here else 0)
        skipped.update(manifest["skipped"])
        left_out += sorted(set(indices) - set(manifest["indices"]))
    if not rows:
        kinds = ", ".join(f"{count} {kind}" for kind, count in skipped.most_common())
        raise DataError(f"none of the {facts['samples']} samples of {facts['source']} can be read ({kinds}).")
    return {"rows": rows, "embed_dim": width, "skipped": dict(skipped), "left_out": left_out}


def _write_npy(parts: Parts, facts: Mapping[str, Any], path: Path) -> None:
    def embeddings(file: BinaryIO) -> None:
        descr = np.lib.format.dtype_to_descr(np.dtype(facts["dtype"]))
        shape = (facts["rows"], facts["embed_dim"])
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        for part in parts.everything(facts["dtype"]):
            file.write(part.embedding.tobytes())

    def keys(file: BinaryIO) -> None:
        for number in range(len(parts.ranges)):
            lines = (escaped(key) + "\n" for key in parts.manifest(number)["keys"])
            file.write("".join(lines).encode(errors="surrogateescape"))

    write_whole(path, embeddings)
    write_whole(keys_path(path), keys)
    # Last: it says that the others are whole.
    write_whole(facts_path(path), lambda file: file.write(as_json(facts)))


def _write_parquet(parts: Parts, facts: Mapping[str, Any], path: Path) -> None:
    arrow = pyarrow_for(f"--to {path}")
    kind = arrow.from_numpy_dtype(np.dtype(facts["dtype"]))
    schema = arrow.schema(
        [("key", arrow.string()), ("index", arrow.int64()), ("embedding", arrow.list_(kind, facts["embed_dim"]))],
        metadata={META: json.dumps(facts)},
    )

    def table(file: BinaryIO) -> None:
        with arrow.parquet.ParquetWriter(file, schema, compression="NONE", use_dictionary=False) as writer:
            for part in parts.everything(facts["dtype"]):
                if part.keys:
                    rows = arrow.FixedSizeListArray.from_arrays(arrow.array(part.embedding.ravel()), facts["embed_dim"])
                    keys = [key.encode(errors="replace").decode() for key in part.keys]
                    columns = [arrow.array(keys, arrow.string()), arrow.array(part.indices, arrow.int64()), rows]
                    writer.write_table(arrow.table(columns, schema=schema))

    write_whole(path, table)


def escaped(key: str) -> str:
    """A key on one line."""
    return key.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def unescaped(line: str) -> str:
    """The key that was `escaped`."""
    if "\\" not in line:
        return line
    letters = {"n": "\n", "r": "\r", "\\": "\\"}
    pieces, rest = [], iter(line)
    for letter in rest:
        pieces.append(letters[next(rest)] if letter == "\\" else letter)
    return "".join(pieces)
