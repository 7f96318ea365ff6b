"""Where the members of a tar shard lie, read once from its headers.

Shards are never extracted and nothing in them is unpickled: of the regular members with a known extension, offset and
size are kept beside the shard (or, where that cannot be written, in a cache folder).

Shape letters: n samples.
"""

import hashlib
import os
import secrets
import stat
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from mmfound.errors import DataError

KINDS = {name: "image" for name in ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")}
KINDS |= {"txt": "text", "json": "json", "cls": "cls"}
COLUMNS = ("image", "text", "json", "cls")
_BLOCK = 512
_VERSION = 2
_LONGEST_NAME = 1 << 16  # bytes of a long name or pax record; more is no name
_WITHOUT_BODY = b"123456"  # links, devices, folders and pipes, whatever size they claim


@dataclass
class Report:
    """What was unusual about a shard."""

    members: int = 0
    duplicates: int = 0  # a key that comes again later, or a member that a sample has twice; the first counts
    empty: int = 0  # pictures of zero bytes, dropped
    truncated: bool = False  # the archive ends early; whole samples before that are kept


@dataclass
class TarIndex:
    """The samples of a shard.

    Attributes:
        places: [n, 4, 2] int64 offset and size of the members, in the order of COLUMNS; size 0 where there is none.
        keys: [total] uint8, the UTF-8 keys one after the other.
        key_stops: [n] int64, one past the last byte of each key.
        report: what was unusual.
    """

    places: np.ndarray
    keys: np.ndarray
    key_stops: np.ndarray
    report: Report = field(default_factory=Report)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.places)

    def key(self, row: int) -> str:
        """Key of a sample: the member names without their extension."""
        start = self.key_stops[row - 1] if row else 0
        return self.keys[start : self.key_stops[row]].tobytes().decode("utf-8", "surrogateescape")


def index_of(shard: Path) -> TarIndex:
    """The index of a shard, from beside it or from the cache; made and kept when there is none that fits.

    Raises:
        DataError: when the shard cannot be read, or is no uncompressed tar file.
    """
    try:
        state = shard.stat()
    except OSError as error:
        raise DataError(f"cannot read shard {shard}: {error.strerror}. Check the path.") from error
    stamp = np.array([_VERSION, state.st_size, state.st_mtime_ns])
    places = [shard.with_name(shard.name + ".idx.npz"), _cached(shard)]
    for place in places:
        if (index := _load(place, stamp)) is not None:
            return index
    index = scan(shard)
    if index.report.truncated:
        if not index.report.members:
            raise DataError(f"shard {shard} is no uncompressed tar file, or an empty one. Unpack or fetch it again.")
        warnings.warn(f"shard {shard.name} ends early; {len(index)} whole samples of it are used", stacklevel=2)
    for place in places:
        if _save(place, stamp, index):
            break
    return index


def scan(shard: Path) -> TarIndex:
    """Read the headers of a shard.

    Raises:
        DataError: when the file cannot be read at all.
    """
    report = Report()
    rows: list[list[int]] = []
    keys: list[bytes] = []
    seen: dict[str, int] = {}
    open_key = None
    try:
        with open(shard, "rb", buffering=0) as file:
            for name, offset, size in _members(file.fileno(), report):
                key, kind = _split(name)
                if kind is None:
                    continue
                if key not in seen:
                    seen[key] = len(rows)
                    rows.append([0] * (2 * len(COLUMNS)))
                    keys.append(key.encode("utf-8", "surrogateescape"))
                elif key != open_key:
                    report.duplicates += 1
                    continue
                open_key = key
                row, column = rows[seen[key]], 2 * COLUMNS.index(kind)
                if row[column]:
                    report.duplicates += 1
                else:
                    row[column : column + 2] = offset, size
    except OSError as error:
        raise DataError(f"cannot read shard {shard}: {error.strerror or error}. Check the file.") from error
    return _packed(rows, keys, report)


def _packed(rows: list[list[int]], keys: list[bytes], report: Report) -> TarIndex:
    places = np.array(rows, np.int64).reshape(-1, len(COLUMNS), 2)
    empty = (places[:, 0, 0] > 0) & (places[:, 0, 1] == 0)
    report.empty = int(empty.sum())
    kept = [key for key, dropped in zip(keys, empty.tolist(), strict=True) if not dropped]
    stops = np.cumsum([len(key) for key in kept], dtype=np.int64)
    return TarIndex(places[~empty], np.frombuffer(b"".join(kept), np.uint8), stops, report)


def _split(name: str) -> tuple[str, str | None]:
    """Key and kind of a member; as in webdataset the extension begins at the first dot of the file name."""
    folder, _, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return (f"{folder}/{stem}" if folder else stem), KINDS.get(extension.lower())


def _members(fd: int, report: Report) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of the regular members, in order."""
    end = os.fstat(fd).st_size
    position, long_name, pax = 0, None, {}
    while True:
        header = os.pread(fd, _BLOCK, position)
        if header == bytes(_BLOCK):
            return
        kind = header[156:157]
        size = _size(header, kind, pax) if len(header) == _BLOCK and _checksum_fits(header) else -1
        data = position + _BLOCK
        if size < 0 or data + size > end or (kind in b"LKx" and size > _LONGEST_NAME):
            report.truncated = True
            return
        position = data + -(-size // _BLOCK) * _BLOCK
        if kind == b"L":
            long_name = _text(os.pread(fd, size, data))
        elif kind == b"x":
            pax = _pax(os.pread(fd, size, data))
        elif kind not in b"gK":
            if kind in (b"0", b"\0", b"7"):
                report.members += 1
                yield pax.get("path") or long_name or _name(header), data, size
            long_name, pax = None, {}


def _size(header: bytes, kind: bytes, pax: dict[str, str]) -> int:
    """Bytes of the body; -1 when the header does not say."""
    if kind in _WITHOUT_BODY:
        return 0
    claimed = pax.get("size", "") if kind not in b"LKxg" else ""
    if claimed:
        return int(claimed) if claimed.isascii() and claimed.isdigit() and len(claimed) < 20 else -1
    return _number(header[124:136])


def _name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500])
    return f"{prefix}/{name}" if header[257:263] == b"ustar\0" and prefix else name


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _number(raw: bytes) -> int:
    if raw[0] & 0x80:
        return int.from_bytes(raw[1:], "big")
    digits = raw.split(b"\0", 1)[0].strip()
    return int(digits, 8) if digits and not digits.strip(b"01234567") else (0 if not digits else -1)


def _checksum_fits(header: bytes) -> bool:
    # The low half of adler32 is one more than the sum of all bytes, modulo 65521, at a tenth of the time of sum().
    total = (zlib.adler32(header) & 0xFFFF) - 1 - sum(header[148:156]) + 8 * 32
    return (_number(header[148:156]) - total) % 65521 == 0


def _pax(records: bytes) -> dict[str, str]:
    found = {}
    while records:
        length = records.partition(b" ")[0]
        if not length.isdigit() or len(length) > 9 or int(length) <= len(length):
            break
        name, _, value = records[len(length) + 1 : int(length) - 1].partition(b"=")
        found[name.decode("utf-8", "replace")] = _text(value)
        records = records[int(length) :]
    return found


def _cached(shard: Path) -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.blake2b(str(shard.resolve()).encode(), digest_size=12).hexdigest()
    return home / "mmfound" / "index" / f"{shard.name}.{digest}.npz"


def _load(place: Path, stamp: np.ndarray) -> TarIndex | None:
    try:
        with open(place, "rb") as file, np.load(file, allow_pickle=False) as saved:
            if not np.array_equal(saved["stamp"], stamp):
                return None
            report = dict(zip((f.name for f in fields(Report)), saved["report"].tolist(), strict=True))
            report["truncated"] = bool(report["truncated"])
            return TarIndex(saved["places"], saved["keys"], saved["key_stops"], Report(**report))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _save(place: Path, stamp: np.ndarray, index: TarIndex) -> bool:
    part = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.parent.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
            return False  # read-only to all, which root would not notice
        with open(part, "xb") as file:
            report = np.array(list(asdict(index.report).values()), np.int64)
            np.savez(file, stamp=stamp, places=index.places, keys=index.keys, key_stops=index.key_stops, report=report)
        os.replace(part, place)
    except OSError:
        part.unlink(missing_ok=True)
        return False
    return True
