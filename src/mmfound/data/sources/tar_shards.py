"""Pictures, captions and labels in tar shards, as webdataset and img2dataset write them."""

import glob
import hashlib
import json
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import fsspec

from mmfound.batch import RawSample
from mmfound.data.errors import BadSample
from mmfound.data.remote import ShardCache, is_remote, listed
from mmfound.data.source import Source
from mmfound.data.tar_index import COLUMNS, TarIndex, index_of
from mmfound.errors import DataError

_TOGETHER = 65_536  # bytes between members up to which one read fetches both
_OPEN_FILES = 256  # as many shards as a window of the default order draws from


class TarShards(Source):
    """Samples in uncompressed tar files: members of one key follow each other, `KEY.jpg`, `KEY.txt`, `KEY.json`.

    Headers are read once and kept as an index; bodies are read in place. `meta` holds the `.json` member, whose
    `captions` (a list) follow the caption of the `.txt` member, and whose `label` counts where there is no `.cls`.

    Attributes:
        classes: as given, or those of a `manifest.json` beside the shards.

    Args:
        urls: shards, or patterns of them: `{00000..01242}` counts, `{a,b}` lists, `*` matches.
        classes: names of the labels.
        captions: fields of the `.json` member that hold captions, texts or lists of texts.
        cache: folder for copies of remote shards.
        cache_bytes: most bytes that remote shards take there; more than are read at a time.

    Raises:
        DataError: when no shard matches, or none has a sample.
    """

    def __init__(
        self,
        urls: str | list[str],
        *,
        classes: list[str] | None = None,
        captions: Sequence[str] = ("captions",),
        cache: str = "data/cache",
        cache_bytes: int = 50 * 2**30,
    ) -> None:
        self.urls = [urls] if isinstance(urls, str) else list(urls)
        self.caption_fields = tuple(captions)
        self.shards = [shard for url in self.urls for shard in _matching(url)]
        self._cache = ShardCache(Path(cache), cache_bytes)
        with ThreadPoolExecutor(min(32, len(self.shards))) as pool:
            self._indexes: list[TarIndex] = list(pool.map(self._index, self.shards))
        self._stops = list(accumulate(len(index) for index in self._indexes))
        if not self._stops[-1]:
            raise DataError(f"the shards {' '.join(self.urls)} hold no samples with a known extension.")
        self.classes = classes if classes is not None else _manifest_classes(self.shards[0])
        self._usual = [name for column, name in enumerate(COLUMNS) if self._any_has(column)]
        self._files: dict[int, int] = {}

    def __len__(self) -> int:
        """Number of samples."""
        return self._stops[-1]

    def __getitem__(self, index: int) -> RawSample:
        """The raw sample at `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"TarShards has {len(self)} samples; there is no number {index}")
        number = bisect_right(self._stops, index)
        row = index - (self._stops[number - 1] if number else 0)
        key = self._indexes[number].key(row)
        try:
            sample = _sample(key, self._read(number, row), self.caption_fields)
        except (OSError, ValueError, RecursionError) as error:
            raise BadSample("unreadable member", str(error), f"{self.shards[number]}:{key}") from error
        if lacking := self._lacking(sample):
            raise BadSample(f"no {lacking}", f"other samples have a {lacking}", f"{self.shards[number]}:{key}")
        return sample

    def captions(self) -> Iterable[str]:
        """All captions, in order, without the pictures."""
        for number, index in enumerate(self._indexes):
            for row in range(len(index)):
                with suppress(OSError, ValueError, RecursionError):  # counted when the stream comes to it
                    members = self._read(number, row, without="image")
                    yield from _sample("", members, self.caption_fields).get("captions", [])

    def stretches(self) -> Sequence[int]:
        """Samples of each shard."""
        return [len(index) for index in self._indexes]

    def fingerprint(self) -> str:
        """Names, sizes and places of all members."""
        digest = hashlib.blake2b(digest_size=12)
        for shard, index in zip(self.shards, self._indexes, strict=True):
            digest.update(shard.rpartition("/")[2].encode() + index.places.tobytes())
        return f"TarShards:{len(self)}:{digest.hexdigest()}"

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files, which a worker opens for itself."""
        return {**self.__dict__, "_files": {}}

    def _any_has(self, column: int) -> bool:
        return any(bool(index.places[:, column, 1].any()) for index in self._indexes)

    def _lacking(self, sample: RawSample) -> str:
        """What other samples have and this one should; labelled pictures do without captions."""
        if "image" in self._usual and "image" not in sample:
            return "picture"
        return "caption" if "text" in self._usual and not {"captions", "label"} & set(sample) else ""

    def _index(self, shard: str) -> TarIndex:
        try:
            return index_of(self._local(shard))
        except BadSample as error:
            raise DataError(f"cannot open shard {error}. Check the address and rights.") from error

    def _local(self, shard: str) -> Path:
        return self._cache.local(shard) if is_remote(shard) else Path(shard)

    def _read(self, number: int, row: int, without: str = "") -> dict[str, bytes]:
        places = {
            name: (int(offset), int(size))
            for name, (offset, size) in zip(COLUMNS, self._indexes[number].places[row], strict=True)
            if offset and name != without
        }
        if not places:
            return {}
        file = self._open(number)
        first = min(offset for offset, _ in places.values())
        last = max(offset + size for offset, size in places.values())
        if last - first > sum(size for _, size in places.values()) + _TOGETHER:
            return {name: _whole(file, offset, size) for name, (offset, size) in places.items()}
        body = _whole(file, first, last - first)
        return {name: body[offset - first : offset - first + size] for name, (offset, size) in places.items()}

    def _open(self, number: int) -> int:
        if number not in self._files:
            if len(self._files) >= _OPEN_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            self._files[number] = self._opened(self.shards[number])
        return self._files[number]

    def _opened(self, shard: str) -> int:
        try:
            return os.open(self._local(shard), os.O_RDONLY)
        except FileNotFoundError:  # another process made room in the cache between the two steps
            return os.open(self._local(shard), os.O_RDONLY)


def _whole(file: int, offset: int, size: int) -> bytes:
    body = os.pread(file, size, offset)
    if len(body) != size:
        raise OSError(f"the shard ends at byte {offset + len(body)}, within the sample; it was longer when opened")
    return body


def _sample(key: str, members: dict[str, bytes], caption_fields: Sequence[str]) -> RawSample:
    meta: dict[str, Any] = json.loads(members["json"]) if members.get("json") else {}
    if not isinstance(meta, dict):
        raise ValueError(f"the .json member holds a {type(meta).__name__}, not an object")
    sample: RawSample = {"key": key, "meta": meta}
    if "image" in members:
        sample["image"] = members["image"]
    texts = [members["text"].decode("utf-8", "replace").strip()] if "text" in members else []
    for field in caption_fields:
        value = meta.get(field)
        texts += [value] if isinstance(value, str) else [text for text in value or [] if isinstance(text, str)]
    if captions := list(dict.fromkeys(text for text in texts if text)):
        sample["captions"] = captions
    label = members["cls"] if "cls" in members else meta.get("label")
    if isinstance(label, (int, bytes)):
        sample["label"] = int(label)
    return sample


def _matching(url: str) -> list[str]:
    """The shards that a pattern names, in order."""
    shards = [shard for spelled in _expand(url) for shard in (listed if is_remote(spelled) else _globbed)(spelled)]
    missing = next((shard for shard in shards if not is_remote(shard) and not Path(shard).is_file()), None)
    if not shards or missing:
        what = f"{missing} is not there" if missing else "no file matches"
        raise DataError(f"no shards at {url!r}: {what}. Check data.init_args.source.init_args.urls.")
    return shards


def _globbed(path: str) -> list[str]:
    return sorted(glob.glob(path)) if any(mark in path for mark in "*?[") else [path]


def _expand(pattern: str) -> Iterator[str]:
    """`{000..012}` and `{a,b}` written out."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [[part] if number % 2 == 0 else _alternatives(part) for number, part in enumerate(parts)]
    return ("".join(choice) for choice in product(*choices))


def _alternatives(inside: str) -> list[str]:
    low, dots, high = inside.partition("..")
    if dots and low.isdigit() and high.isdigit():
        return [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]
    return inside.split(",")


def _manifest_classes(shard: str) -> list[str]:
    try:
        with fsspec.open(f"{shard.rpartition('/')[0] or '.'}/manifest.json", encoding="utf-8", mode="r") as file:
            classes = json.load(file).get("classes") or []  # pyright: ignore[reportArgumentType]
    except (OSError, ValueError, AttributeError):
        return []
    return [str(item["class"]) if isinstance(item, dict) else str(item) for item in classes]
