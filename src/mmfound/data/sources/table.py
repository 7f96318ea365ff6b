"""Tables of pictures and captions: CSV, TSV, JSONL, Parquet."""

import csv
import difflib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmfound.batch import RawSample
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
        captions = None if caption is None else [_texts(value) for value in columns[caption]]
        folder = Path(path).parent if root is None else Path(root)
        paths = [str(value) for value in columns[image]]
        super().__init__(folder, paths, captions=captions, labels=labels, classes=names, what=f"Table: {path}")


class ParquetImages(Source):
    """Parquet files whose rows hold the encoded pictures themselves, as bytes or as `datasets` writes them.

    Rows are read one row group at a time, and the last group is kept.

    Args:
        path: a .parquet file, or a folder of them.
        image: column of bytes, or of objects with `bytes`.
        caption: column of captions, texts or lists of texts; null for none.
        label: column of integer labels; null for none.
        classes: names of the labels.

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
    ) -> None:
        parquet = _pyarrow("ParquetImages").parquet
        place = Path(path)
        self._files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
        if not self._files or not self._files[0].is_file():
            raise DataError(f"ParquetImages: no .parquet file at {path}.")
        self._image, self._caption, self._label = image, caption, label
        self.classes = classes or []
        groups = []
        for number, file in enumerate(self._files):
            opened = parquet.ParquetFile(file)
            _require(opened.schema_arrow.names, [c for c in (image, caption, label) if c is not None], str(file))
            sizes = [opened.metadata.row_group(g).num_rows for g in range(opened.num_row_groups)]
            groups += [(number, group, size) for group, size in enumerate(sizes)]
        self._groups = np.array(groups, np.int64).reshape(-1, 3)
        self._stops = np.cumsum(self._groups[:, 2])
        if not len(self):
            raise DataError(f"ParquetImages: {path} has no rows.")
        self._open: tuple[int, list[dict[str, Any]]] = (-1, [])

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._stops[-1]) if len(self._stops) else 0

    def __getitem__(self, index: int) -> RawSample:
        """The raw sample at `index`."""
        group = int(np.searchsorted(self._stops, index, "right"))
        row = self._rows(group)[index - int(self._stops[group] - self._groups[group, 2])]
        image = row[self._image]
        sample: RawSample = {"key": f"row-{index}", "image": image["bytes"] if isinstance(image, dict) else image}
        if self._caption is not None and (texts := _texts(row[self._caption])):
            sample["captions"] = texts
        if self._label is not None:
            sample["label"] = int(row[self._label])
        return sample

    def stretches(self) -> Sequence[int]:
        """Rows of each row group."""
        return self._groups[:, 2].tolist()

    def __getstate__(self) -> dict[str, Any]:
        """Without the rows in memory."""
        return {**self.__dict__, "_open": (-1, [])}

    def _rows(self, group: int) -> list[dict[str, Any]]:
        if self._open[0] != group:
            file, number, _ = self._groups[group].tolist()
            columns = [c for c in (self._image, self._caption, self._label) if c is not None]
            opened = _pyarrow("ParquetImages").parquet.ParquetFile(self._files[file])
            self._open = (group, opened.read_row_group(number, columns=columns).to_pylist())
        return self._open[1]


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
            _require(next(csv.reader(file, delimiter=delimiter), []), columns, path)

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
            _require(list(row), columns, f"{path}, line {number},")
            for name in columns:
                found[name].append(row[name])
    return dict(found)


def _parquet(path: str, columns: Sequence[str]) -> Columns:
    parquet = _pyarrow(f"Table: {path}").parquet
    _require(parquet.read_schema(path).names, columns, path)
    table = parquet.read_table(path, columns=list(columns))
    return {name: table[name].to_pylist() for name in columns}


def _pyarrow(user: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(f"{user} needs pyarrow; install it with: pip install 'mmfound[arrow]'") from None
    return pyarrow


def _require(there: Sequence[str], columns: Sequence[str], where: str) -> None:
    for name in columns:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise DataError(f"{where} has no column {name!r}; its columns are {', '.join(map(repr, there))}{hint}")


def _texts(value: Any) -> list[str]:
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
