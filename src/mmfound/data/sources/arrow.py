"""Data sets that the `datasets` library saved on disk."""

import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from mmfound.batch import RawSample
from mmfound.data.errors import BadSample
from mmfound.data.source import Source
from mmfound.data.sources.table import need_columns, pyarrow_for, texts_of
from mmfound.errors import DataError


class Arrow(Source):
    """A folder written by `Dataset.save_to_disk`, mapped into memory and not copied; needs pyarrow alone.

    Attributes:
        classes: as given, or the names of a `ClassLabel` column.

    Args:
        path: the folder, of one split.
        image: column of bytes, or of an `Image` feature.
        caption: column of captions, texts or lists of texts; null for none.
        label: column of integer labels; null for none.
        classes: names of the labels.

    Raises:
        DataError: when the folder is none of that kind, lacks a column or is empty.
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
        self._files = _files(Path(path))
        self._image, self._caption, self._label = image, caption, label
        self._tables: list[Any] = []
        tables = self._opened()
        need_columns(tables[0].column_names, [name for name in (image, caption, label) if name is not None], path)
        self._stops = np.cumsum([len(table) for table in tables])
        if not len(self):
            raise DataError(f"Arrow: {path} has no rows.")
        self.classes = classes if classes is not None else _class_names(Path(path), label)

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._stops[-1])

    def __getitem__(self, index: int) -> RawSample:
        """The raw sample at `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"Arrow has {len(self)} rows; there is no number {index}")
        number = int(np.searchsorted(self._stops, index, "right"))
        table = self._opened()[number]
        row = index - int(self._stops[number] - len(table))
        image = table[self._image][row].as_py()
        body = image.get("bytes") if isinstance(image, dict) else image
        if not isinstance(body, bytes):
            raise BadSample("no picture", f"column {self._image!r} holds no bytes", f"row-{index}")
        sample: RawSample = {"key": f"row-{index}", "image": body}
        if self._caption is not None and (texts := texts_of(table[self._caption][row].as_py())):
            sample["captions"] = texts
        if self._label is not None:
            sample["label"] = int(table[self._label][row].as_py())
        return sample

    def captions(self) -> Iterable[str]:
        """All captions, in order, without the pictures."""
        if self._caption is not None:
            for table in self._opened():
                for value in table[self._caption]:
                    yield from texts_of(value.as_py())

    def stretches(self) -> Sequence[int]:
        """Rows of each file."""
        return np.diff(self._stops, prepend=0).tolist()

    def fingerprint(self) -> str:
        """Columns, names and sizes of the files."""
        files = [(file.name, file.stat().st_size) for file in self._files]
        columns = (self._image, self._caption, self._label)
        return f"Arrow:{len(self)}:{blake2b(repr((files, columns)).encode(), digest_size=12).hexdigest()}"

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped files, which a worker maps for itself."""
        return {**self.__dict__, "_tables": []}

    def _opened(self) -> list[Any]:
        if not self._tables:
            pyarrow = pyarrow_for("Arrow")
            try:
                self._tables = [pyarrow.ipc.open_stream(pyarrow.memory_map(str(f))).read_all() for f in self._files]
            except (OSError, pyarrow.ArrowInvalid) as error:
                raise DataError(f"Arrow: cannot read {self._files[0].parent}: {error}. Save it again.") from error
        return self._tables


def _files(folder: Path) -> list[Path]:
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.name for path in folder.iterdir() if (path / "state.json").is_file())
        raise DataError(f"Arrow: {folder} holds several splits; name one of {', '.join(splits)}, as {folder}/SPLIT.")
    try:
        files = json.loads((folder / "state.json").read_text(encoding="utf-8"))["_data_files"]
        return [folder / Path(file["filename"]).name for file in files]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"Arrow: {folder} is no folder of Dataset.save_to_disk ({error!r}).") from error


def _class_names(folder: Path, label: str | None) -> list[str]:
    try:
        features = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))["features"]
        return [str(name) for name in features[label]["names"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
