"""A finished file of embeddings, read in pieces.

Shape letters: N rows, E joint embedding width.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mmfound.data.sources.table import pyarrow_for
from mmfound.embedding.job import FORMAT
from mmfound.embedding.joining import META, facts_path, keys_path, unescaped
from mmfound.embedding.parts import read_facts
from mmfound.errors import ConfigError, DataError

_NEEDED = ("format", "weights", "weights_sha256", "source", "rows", "embed_dim", "dtype", "left_out")


class EmbeddingFile:
    """What `mmfound embed` has written.

    Args:
        path: a .parquet or .npy file, or a folder that holds `embeddings.npy`.

    Attributes:
        path: the file.
        facts: what it says about itself.

    Raises:
        ConfigError: when there is none, it is something else, or of another version.
        DataError: when it is damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path) / "embeddings.npy" if Path(path).is_dir() else Path(path)
        if not self.path.is_file():
            raise ConfigError(f"no embeddings at {path}; make them first: mmfound embed WEIGHTS SOURCE --to {path}")
        self._is_parquet = self.path.suffix == ".parquet"
        self.facts = self._parquet_facts() if self._is_parquet else self._npy_facts()
        missing = [name for name in _NEEDED if name not in self.facts]
        if missing:
            raise ConfigError(f"{self.path} does not say its {missing[0]}; name a file of `mmfound embed`.")
        if self.facts.get("format") != FORMAT:
            raise ConfigError(
                f"{self.path} has format {self.facts.get('format')!r}, and this mmfound reads {FORMAT}; embed again."
            )

    def __len__(self) -> int:
        """N."""
        return self.facts["rows"]

    def chunks(self, rows: int) -> Iterator[tuple[int, np.ndarray]]:
        """Number of the first row, and up to `rows` rows [n, E], in order."""
        if not self._is_parquet:
            array = self._mapped()
            yield from ((start, array[start : start + rows]) for start in range(0, len(array), rows))
            return
        start, opened = 0, self._open_parquet()
        for batch in opened.iter_batches(batch_size=rows, columns=["embedding"]):
            flat = batch.column(0).flatten().to_numpy(zero_copy_only=False)
            yield start, flat.reshape(len(batch), self.facts["embed_dim"])
            start += len(batch)

    def names(self, rows: Sequence[int]) -> dict[int, tuple[int, str]]:
        """Index in the source and key of some rows, by row."""
        return self._parquet_names(set(rows)) if self._is_parquet else self._npy_names(set(rows))

    def _npy_facts(self) -> dict[str, Any]:
        if self.path.suffix != ".npy":
            raise ConfigError(f"{self.path} is neither .parquet nor .npy; name a file that `mmfound embed` wrote.")
        if not facts_path(self.path).is_file():
            raise ConfigError(
                f"{facts_path(self.path)} is missing beside {self.path}: the file is not finished, or not ours; start "
                "`mmfound embed` again, or copy all three files."
            )
        return read_facts(facts_path(self.path))

    def _mapped(self) -> np.ndarray:
        try:
            array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path} is damaged ({error}); embed again.") from error
        if array.shape != (len(self), self.facts["embed_dim"]) or array.dtype != self.facts["dtype"]:
            raise DataError(
                f"{self.path} holds {array.dtype} {list(array.shape)}, but {facts_path(self.path).name} says "
                f"{self.facts['dtype']} {[len(self), self.facts['embed_dim']]}; embed again."
            )
        return array

    def _npy_names(self, rows: set[int]) -> dict[int, tuple[int, str]]:
        left_out = np.asarray(self.facts["left_out"], np.int64)
        before = left_out - np.arange(len(left_out))  # rows before each
        with open(keys_path(self.path), encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            wanted = ((row, line.rstrip("\n")) for row, line in enumerate(islice(file, max(rows) + 1)) if row in rows)
            return {row: (row + int((before <= row).sum()), unescaped(key)) for row, key in wanted}

    def _open_parquet(self) -> Any:
        arrow = pyarrow_for(str(self.path))
        try:
            return arrow.parquet.ParquetFile(self.path)
        except (OSError, arrow.ArrowInvalid) as error:
            raise DataError(f"{self.path} is damaged ({error}); embed again.") from error

    def _parquet_facts(self) -> dict[str, Any]:
        return json.loads((self._open_parquet().schema_arrow.metadata or {}).get(META, b"{}"))

    def _parquet_names(self, rows: set[int]) -> dict[int, tuple[int, str]]:
        opened, start, found = self._open_parquet(), 0, {}
        for group in range(opened.num_row_groups):
            here = range(start, start := start + opened.metadata.row_group(group).num_rows)
            wanted = sorted(rows.intersection(here))
            if wanted:
                table = opened.read_row_group(group, columns=["index", "key"])
                places = [row - here.start for row in wanted]
                columns = (table[name].take(places).to_pylist() for name in ("index", "key"))
                found.update(zip(wanted, zip(*columns, strict=True), strict=True))
        return found
