"""Pictures in files, found by path."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mmfound.batch import RawSample
from mmfound.data.errors import BadSample
from mmfound.data.packed import PackedStrings
from mmfound.data.source import Source
from mmfound.errors import DataError

CHECKED = 100_000  # files looked for when a source is opened


class ImageFiles(Source):
    """Pictures by path, each with captions, a label or both: what tables, folders and annotation files come down to.

    Args:
        root: folder that the paths are relative to.
        paths: of the pictures.
        captions: of each picture, at least one where given.
        labels: of each picture.
        classes: names of the labels.
        what: how messages call the source.

    Raises:
        DataError: when there is no picture, or none of those named is there.
    """

    def __init__(
        self,
        root: Path,
        paths: Iterable[str],
        *,
        captions: Iterable[Sequence[str]] | None = None,
        labels: Sequence[int] | None = None,
        classes: Sequence[str] = (),
        what: str,
    ) -> None:
        self.root = root
        self.classes = classes
        self._paths = PackedStrings(paths)
        self._captions = None if captions is None else PackedStrings("\0".join(group) for group in captions)
        self._labels = None if labels is None else np.asarray(labels, np.int64)
        self._what = what
        if not len(self._paths):
            raise DataError(f"{what} names no pictures. Check the file and its columns.")
        self._look_for_files()

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._paths)

    def __getitem__(self, index: int) -> RawSample:
        """The raw sample at `index`."""
        path = self._paths[index]
        if not self._is_there(path):  # nor a pipe or a device, which would never end
            raise BadSample("missing file", f"no file in {self.root}", path)
        try:
            sample: RawSample = {"key": path, "image": (self.root / path).read_bytes()}
        except OSError as error:
            raise BadSample("unreadable file", str(error.strerror), path) from error
        if self._captions is not None and (texts := self._captions[index]):
            sample["captions"] = texts.split("\0")
        if self._labels is not None:
            sample["label"] = int(self._labels[index])
        elif self._captions is not None and "captions" not in sample:
            raise BadSample("no caption", "other samples have a caption", path)
        return sample

    def captions(self) -> Iterable[str]:
        """All captions, in order."""
        for index in range(len(self) if self._captions is not None else 0):
            yield from (text for text in self._captions[index].split("\0") if text)  # pyright: ignore

    def fingerprint(self) -> str:
        """Paths, captions and labels."""
        digest = hashlib.blake2b(self._paths.digest_bytes(), digest_size=12)
        if self._captions is not None:
            digest.update(self._captions.digest_bytes())
        if self._labels is not None:
            digest.update(self._labels.tobytes())
        return f"{type(self).__name__}:{len(self)}:{digest.hexdigest()}"

    def _look_for_files(self) -> None:
        step = max(1, len(self) // CHECKED)
        missing = [path for path in map(self._paths.__getitem__, range(0, len(self), step)) if not self._is_there(path)]
        looked_for = len(range(0, len(self), step))
        if len(missing) == looked_for:
            raise DataError(
                f"{self._what} names {len(self)} pictures, and none is there: {self.root / missing[0]} is missing. "
                "Check the folder that its paths are relative to."
            )

    def _is_there(self, path: str) -> bool:
        try:
            return (self.root / path).is_file()
        except (OSError, ValueError):  # a name that no file can have
            return False
