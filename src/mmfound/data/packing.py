"""Any source to tar shards."""

import contextlib
import errno
import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmfound.batch import RawSample
from mmfound.data.decode import FORMATS, decode
from mmfound.data.errors import BadSample
from mmfound.data.source import Source
from mmfound.errors import ConfigError, DiskFullError

_EXTENSIONS = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "AVIF": "avif",
}


@dataclass
class Recode:
    """How `pack` writes pictures anew.

    Args:
        size: shorter side above which a picture is shrunk; null for no limit.
        quality: of the JPEG files, 1 to 100.
    """

    size: int | None = None
    quality: int = 90

    def __call__(self, image: bytes | np.ndarray) -> bytes:
        """The picture as JPEG, RGB."""
        picture = Image.fromarray(decode(image).permute(1, 2, 0).numpy())
        shorter = min(picture.size)
        if self.size is not None and shorter > self.size:
            sides = (round(side * self.size / shorter) for side in picture.size)
            picture = picture.resize((next(sides), next(sides)), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=self.quality)
        return file.getvalue()


def pack(
    source: Source, out: Path, *, name: str = "data", shard_size: int = 10_000, recode: Recode | None = None
) -> list[Path]:
    """Write a source into shards and a manifest; damaged samples are left out and counted.

    The bytes depend on the samples alone. A shard appears under its name only when it is whole.

    Args:
        source: the samples.
        out: folder, made when missing.
        name: of the shards, `NAME-000000.tar`.
        shard_size: samples per shard.
        recode: how to write pictures anew; by default they are kept byte for byte.

    Returns:
        The shards.

    Raises:
        ConfigError: when the folder holds shards of that name already, or shard_size is below 1.
        DiskFullError: when there is no room.
    """
    if shard_size < 1:
        raise ConfigError(f"shard_size is {shard_size}; it must be at least 1.")
    out.mkdir(parents=True, exist_ok=True)
    if any(out.glob(f"{name}-*.tar")):
        raise ConfigError(f"{out} already holds shards {name}-*.tar; remove them, or use another folder or name.")
    shards, damaged = [], 0
    for number, start in enumerate(range(0, len(source), shard_size)):
        shards.append(out / f"{name}-{number:06d}.tar")
        with _whole_file(shards[-1]) as part, tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
            for index in range(start, min(start + shard_size, len(source))):
                try:
                    members = list(_members(source[index], index, recode))
                except BadSample:
                    damaged += 1
                    continue
                for member, body in members:
                    info = tarfile.TarInfo(member)
                    info.size = len(body)
                    tar.addfile(info, io.BytesIO(body))
    manifest = {"samples": len(source) - damaged, "left_out": damaged, "classes": list(source.classes)}
    with _whole_file(out / "manifest.json") as part:
        part.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return shards


@contextlib.contextmanager
def _whole_file(place: Path) -> Iterator[Path]:
    """A temporary name that becomes `place` when the block ends well."""
    part = place.with_name(place.name + ".part")
    try:
        yield part
        os.replace(part, place)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError(f"no room to write {place}. Free some, or use another folder.") from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _members(sample: RawSample, index: int, recode: Recode | None) -> Iterator[tuple[str, bytes]]:
    key = f"{index:09d}"
    if "image" in sample:
        extension, body = _picture(sample["image"], recode)
        yield f"{key}.{extension}", body
    if captions := sample.get("captions"):
        yield f"{key}.txt", captions[0].encode("utf-8", "replace")
    facts = {**sample.get("meta", {}), "key": sample["key"]}
    if captions and len(captions) > 1:
        facts["captions"] = captions
    if "label" in sample:
        facts["label"] = sample["label"]
    yield f"{key}.json", json.dumps(facts, sort_keys=True, default=_plain).encode()


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def _picture(image: bytes | np.ndarray, recode: Recode | None) -> tuple[str, bytes]:
    if recode is not None:
        return "jpg", recode(image)
    decode(image)
    if isinstance(image, np.ndarray):
        body = io.BytesIO()
        Image.fromarray(image).save(body, "PNG")
        return "png", body.getvalue()
    return _EXTENSIONS[str(Image.open(io.BytesIO(image), formats=FORMATS).format)], image
