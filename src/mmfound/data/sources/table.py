"""Tables of pictures and captions: CSV, TSV, JSONL, Parquet."""

import csv
import difflib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmfound.batch import RawSample
from mmfound.data.errors import BadSample
from mmfound.data.packed import PackedStrings
from mmfound.data.source import Source
from mmfound.data.sources.files import ImageFiles
from mmfound.errors import ConfigError, DataError

Columns = dict[str, Sequence[Any]]


class Table(ImageFiles):
    """A row per picture: the path of its file, a caption, a label.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file.
        image: column of the pictures' paths.
        caption: column of the captions (a text, or in JSONL and Parquet a list of texts); null for none.
        label: column of the labels, numbers or names; null for none.
        root: folder that the paths are relative to; the table's own by default.
        classes: names of the labels; by default, for labels that are names, those in alphabetical order.

    Raises:
        DataError: when the table lacks a column, is empty, or none of its pictures is there.
        ConfigError: for another kind of file.
    """

    def __init__(
        self,
        path: str,
        *,
        image: str = "image",
        caption: str | None = "caption",
        label: str | None = None,
        root: str | None = None,
        classes: list[str] | None = None,
    ) -> None:
        columns = read_table(path, [name for name in (image, caption, label) if name is not None])
        labels, names = _labels(columns[label], classes) if label is not None else (None, classes or [])
        captions = None if caption is None else [texts_of(value) for value in columns[caption]]
        folder = Path(path).parent if root is None else Path(root)
        paths = [str(value) for value in columns[image]]
        super().__init__(folder, paths, captions=captions, labels=labels, classes=names, what=f"Table: {path}")


class ParquetImages(Source):
    """Parquet files whose rows hold the encoded pictures themselves, as bytes or as `datasets` writes them.

    Rows are read a row group at a time, and the last ones are kept. In a shuffled order every window of blocks draws
    from many groups: where those are more than `group_bytes`, pack the file into shards (`mmfound data pack`) first.

    Args:
        path: a .parquet file, or a folder of them.
        image: column of bytes, or of objects with `bytes`.
        caption: column of captions, texts or lists of texts; null for none.
        label: column of integer labels; null for none.
        classes: names of the labels.
        group_bytes: memory for row groups in every worker; the last one is always kept.

    Raises:
        DataError: when a column is missing or there are no rows.
        ConfigError: when pyarrow is not installed.
    """

    def __init__(
        self,
        path: str,
        *,
        image: str = "image",
        caption: str | None = "caption",
        label: str | None = None,
        classes: list[str] | None = None,
        group_bytes: int = 256 * 2**20,
    ) -> None:
        parquet = pyarrow_for("ParquetImages").parquet
        place = Path(path)
        self._files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
        if not self._files or not self._files[0].is_file():
            raise DataError(f"ParquetImages: no .parquet file at {path}.")
        self._image, self._caption, self._label = image, caption, label
        self.classes = classes or []
        groups = []
        for number, file in enumerate(self._files):
            opened = parquet.ParquetFile(file)
            need_columns(opened.schema_arrow.names, [c for c in (image, caption, label) if c is not None], str(file))
            sizes = [opened.metadata.row_group(g).num_rows for g in range(opened.num_row_groups)]
            groups += [(number, group, size) for group, size in enumerate(sizes)]
        self._groups = np.array(groups, np.int64).reshape(-1, 3)
        self._stops = np.cumsum(self._groups[:, 2])
        if not len(self):
            raise DataError(f"ParquetImages: {path} has no rows.")
        self._group_bytes = group_bytes
        self._kept: dict[int, Any] = {}

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._stops[-1]) if len(self._stops) else 0

    def __getitem__(self, index: int) -> RawSample:
        """The raw sample at `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"ParquetImages has {len(self)} rows; there is no number {index}")
        group = int(np.searchsorted(self._stops, index, "right"))
        row = self._rows(group, index - int(self._stops[group] - self._groups[group, 2]))
        image = row[self._image]
        body = image.get("bytes") if isinstance(image, dict) else image
        if not isinstance(body, bytes):
            raise BadSample("no picture", f"column {self._image!r} holds no bytes", f"row-{index}")
        sample: RawSample = {"key": f"row-{index}", "image": body}
        if self._caption is not None and (texts := texts_of(row[self._caption])):
            sample["captions"] = texts
        if self._label is not None:
            sample["label"] = int(row[self._label])
        return sample

    def stretches(self) -> Sequence[int]:
        """Rows of each row group."""
        return self._groups[:, 2].tolist()

    def __getstate__(self) -> dict[str, Any]:
        """Without the rows in memory."""
        return {**self.__dict__, "_kept": {}}

    def _rows(self, group: int, row: int) -> dict[str, Any]:
        table = self._kept.pop(group, None)
        if table is None:
            file, number, _ = self._groups[group].tolist()
            columns = [c for c in (self._image, self._caption, self._label) if c is not None]
            opened = pyarrow_for("ParquetImages").parquet.ParquetFile(self._files[file])
            table = opened.read_row_group(number, columns=columns)
        self._kept[group] = table
        while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self._group_bytes:
            del self._kept[next(iter(self._kept))]
        return {name: table[name][row].as_py() for name in table.column_names}


def read_table(path: str, columns: Sequence[str]) -> Columns:
    """The named columns of a table, CSV and TSV as packed strings.

    Raises:
        DataError: when the file cannot be read or lacks a column.
        ConfigError: when the file is of another kind, or pyarrow is needed and not installed.
    """
    readers = {".csv": _delimited(","), ".tsv": _delimited("\t"), ".jsonl": _json_lines, ".parquet": _parquet}
    kind = Path(path).suffix.lower()
    if kind not in readers:
        raise ConfigError(f"Table: {path} ends in {kind!r}; it reads {', '.join(readers)}.")
    try:
        return readers[kind](path, columns)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}. Check the path.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable {kind} table: {error}.") from error


def _delimited(delimiter: str):
    def read(path: str, columns: Sequence[str]) -> Columns:
        with open(path, newline="", encoding="utf-8-sig") as file:
            need_columns(next(csv.reader(file, delimiter=delimiter), []), columns, path)

        def column(name: str) -> Iterable[str]:
            with open(path, newline="", encoding="utf-8-sig") as file:
                yield from (row[name] or "" for row in csv.DictReader(file, delimiter=delimiter))

        return {name: PackedStrings(column(name)) for name in columns}  # pyright: ignore[reportReturnType]

    return read


def _json_lines(path: str, columns: Sequence[str]) -> Columns:
    found: dict[str, list[Any]] = {name: [] for name in columns}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}, is not JSON: {error}.") from error
            need_columns(list(row), columns, f"{path}, line {number},")
            for name in columns:
                found[name].append(row[name])
    return dict(found)


def _parquet(path: str, columns: Sequence[str]) -> Columns:
    parquet = pyarrow_for(f"Table: {path}").parquet
    need_columns(parquet.read_schema(path).names, columns, path)
    table = parquet.read_table(path, columns=list(columns))
    return {name: table[name].to_pylist() for name in columns}


def holds_pictures(path: str, image: str) -> bool:
    """Whether the image column of a Parquet file holds the pictures themselves, not their paths.

    Raises:
        DataError: when the file cannot be read.
        ConfigError: when pyarrow is not installed.
    """
    pyarrow = pyarrow_for(f"Table: {path}")
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DataError(f"cannot read {path}: {error}. Check the path.") from error
    kinds = pyarrow.types
    held = (kinds.is_binary, kinds.is_large_binary, kinds.is_struct)
    return image in schema.names and any(is_kind(schema.field(image).type) for is_kind in held)


def pyarrow_for(user: str) -> Any:
    """The pyarrow module.

    Raises:
        ConfigError: when it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(f"{user} needs pyarrow; install it with: pip install 'mmfound[arrow]'") from None
    return pyarrow


def need_columns(there: Sequence[str], columns: Sequence[str], where: str) -> None:
    """Check that the columns are there.

    Raises:
        DataError: naming the first that is not, those that are, and the nearest.
    """
    for name in columns:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise DataError(f"{where} has no column {name!r}; its columns are {', '.join(map(repr, there))}{hint}")


def texts_of(value: Any) -> list[str]:
    """The texts in a cell that holds one or a list of them; empty ones are none."""
    texts = value if isinstance(value, list) else [value]
    return [text.strip() for text in texts if isinstance(text, str) and text.strip()]


def _labels(values: Sequence[Any], classes: list[str] | None) -> tuple[list[int], list[str]]:
    raw = [values[index] for index in range(len(values))]
    if all(str(value).lstrip("-").isdigit() for value in raw):
        return [int(value) for value in raw], classes or []
    names = classes or sorted({str(value) for value in raw})
    number = {name: label for label, name in enumerate(names)}
    unknown = next((value for value in raw if str(value) not in number), None)
    if unknown is not None:
        raise DataError(f"label {unknown!r} is none of the {len(names)} classes given.")
    return [number[str(value)] for value in raw], names
