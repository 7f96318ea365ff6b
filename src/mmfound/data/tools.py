"""`mmfound data inspect|verify|pack`: look at samples, find the damaged ones, write shards."""

import argparse
import contextlib
import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mmfound.batch import RawSample
from mmfound.data.decode import decode
from mmfound.data.errors import BadSample
from mmfound.data.source import Source
from mmfound.data.sources import ClassFolders, Digits, Shapes, Table, TarShards
from mmfound.errors import ConfigError, DataError

_CELL, _COLUMNS, _TEXT = 192, 4, 56
_CHUNK = 256
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "AVIF": "avif"}


def open_source(
    path: str, *, image: str = "image", caption: str | None = "caption", label: str | None = None
) -> Source:
    """The source that a path looks like: `shapes`, `digits`, shards, a table, or a folder of classes or of shards.

    Raises:
        DataError: when there is nothing that can be read.
    """
    if path in ("shapes", "digits"):
        return Shapes(1000) if path == "shapes" else Digits()
    if Path(path).suffix.lower() in (".csv", ".tsv", ".jsonl", ".parquet"):
        return Table(path, image=image, caption=caption, label=label)
    if Path(path).is_dir():
        return TarShards(f"{path}/*.tar") if any(Path(path).glob("*.tar")) else ClassFolders(path)
    return TarShards(path)


def inspect(source: Source, out: Path, *, count: int = 16, start: int = 0) -> dict[str, object]:
    """Draw a sheet of samples with their captions.

    Args:
        source: the samples.
        out: the PNG to write.
        count: how many, from `start` on.
        start: index of the first.

    Returns:
        Facts about the source, by name.
    """
    shown = range(start, min(start + count, len(source)))
    if not shown:
        raise ConfigError(f"start is {start}, but the source has only {len(source)} samples.")
    rows = -(-len(shown) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _CELL, rows * (_CELL + _TEXT)), "white")
    for place, index in enumerate(shown):
        corner = (place % _COLUMNS * _CELL, place // _COLUMNS * (_CELL + _TEXT))
        sheet.paste(_cell(source, index), corner)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, "PNG")
    first = source[shown[0]]
    facts: dict[str, object] = {
        "samples": len(source),
        "classes": len(source.classes),
        "stretches": len(source.stretches()),
    }
    return facts | {"first sample": {name: _brief(value) for name, value in first.items()}}


def _cell(source: Source, index: int) -> Image.Image:
    cell = Image.new("RGB", (_CELL, _CELL + _TEXT), "white")
    draw = ImageDraw.Draw(cell)
    try:
        sample = source[index]
        text = (sample.get("captions") or [sample["key"]])[0]
        if "image" in sample:
            picture = Image.fromarray(decode(sample["image"]).permute(1, 2, 0).numpy())
            scale = (_CELL - 8) / max(picture.size)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            cell.paste(picture.resize(size, Image.Resampling.BICUBIC), (4, 4))
    except BadSample as error:
        text = str(error)
    for line, start in enumerate(range(0, min(len(text), 120), 30)):
        draw.text((4, _CELL + 12 * line), text[start : start + 30], fill="black")
    return cell


def _brief(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, np.ndarray):
        return f"pixels {value.shape}"
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."


@dataclass
class Verified:
    """What `verify` found.

    Attributes:
        samples: how many were read.
        damaged: index and reason of each that could not be.
        by_kind: how many of every kind.
    """

    samples: int
    damaged: list[tuple[int, str]] = field(default_factory=list)
    by_kind: Counter[str] = field(default_factory=Counter)


def verify(source: Source, *, workers: int = 0) -> Verified:
    """Read and decode every sample.

    Args:
        source: the samples.
        workers: processes; 0 for this one alone.
    """
    chunks = [(source, start, min(start + _CHUNK, len(source))) for start in range(0, len(source), _CHUNK)]
    found = Verified(len(source))
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(ProcessPoolExecutor(workers)).map if workers else map
        for damaged in run(_damaged, chunks):
            for index, kind, reason in damaged:
                found.damaged.append((index, reason))
                found.by_kind[kind] += 1
    return found


def _damaged(chunk: tuple[Source, int, int]) -> list[tuple[int, str, str]]:
    source, start, stop = chunk
    damaged = []
    for index in range(start, stop):
        where = f"sample {index}"
        try:
            sample = source[index]
            where = sample["key"]
            if "image" in sample:
                decode(sample["image"])
        except BadSample as error:
            damaged.append((index, error.kind, str(BadSample(error.kind, error.detail, error.where or where))))
    return damaged


def pack(source: Source, out: Path, *, name: str = "data", shard_size: int = 10_000) -> list[Path]:
    """Write a source into shards and a manifest, pictures byte for byte; damaged samples are left out and counted.

    The bytes depend on the samples alone. A shard appears under its name only when it is whole.

    Args:
        source: the samples.
        out: folder, made when missing.
        name: of the shards, `NAME-000000.tar`.
        shard_size: samples per shard.

    Returns:
        The shards.
    """
    out.mkdir(parents=True, exist_ok=True)
    shards, damaged = [], 0
    for number, start in enumerate(range(0, len(source), shard_size)):
        place = out / f"{name}-{number:06d}.tar"
        part = place.with_suffix(".part")
        with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
            for index in range(start, min(start + shard_size, len(source))):
                try:
                    members = list(_members(source[index], index, source.classes))
                except BadSample:
                    damaged += 1
                    continue
                for member, body in members:
                    info = tarfile.TarInfo(member)
                    info.size = len(body)
                    tar.addfile(info, io.BytesIO(body))
        os.replace(part, place)
        shards.append(place)
    manifest = {"samples": len(source) - damaged, "left_out": damaged, "classes": list(source.classes)}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return shards


def _members(sample: RawSample, index: int, classes: object) -> Iterator[tuple[str, bytes]]:
    key = f"{index:09d}"
    if "image" in sample:
        yield _picture(key, sample["image"])
    if captions := sample.get("captions"):
        yield f"{key}.txt", captions[0].encode()
    facts = {**sample.get("meta", {}), "key": sample["key"]}
    if captions and len(captions) > 1:
        facts["captions"] = captions
    if "label" in sample:
        facts["label"] = sample["label"]
    yield f"{key}.json", json.dumps(facts, sort_keys=True, default=str).encode()


def _picture(key: str, image: bytes | np.ndarray) -> tuple[str, bytes]:
    decode(image)
    if isinstance(image, np.ndarray):
        body = io.BytesIO()
        Image.fromarray(image).save(body, "PNG")
        return f"{key}.png", body.getvalue()
    return f"{key}.{_EXTENSIONS[str(Image.open(io.BytesIO(image)).format)]}", image


def main(argv: list[str]) -> int:
    """The command line of `mmfound data`."""
    arguments = _parser().parse_args(argv)
    source = open_source(
        arguments.path, image=arguments.image, caption=arguments.caption or None, label=arguments.label
    )
    if arguments.command == "inspect":
        facts = inspect(source, arguments.out, count=arguments.count, start=arguments.start)
        print("\n".join(f"{name}: {value}" for name, value in facts.items()))
        print(f"contact sheet: {arguments.out}")
        return 0
    if arguments.command == "pack":
        shards = pack(source, arguments.out, name=arguments.name, shard_size=arguments.shard_size)
        print(f"{len(source)} samples in {len(shards)} shards: {arguments.out}")
        return 0
    found = verify(source, workers=arguments.workers)
    for _, reason in found.damaged:
        print(reason)
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.by_kind.most_common())
    print(f"{found.samples} samples, {len(found.damaged)} damaged" + (f": {kinds}" if kinds else ""))
    return DataError.exit_code if found.damaged else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mmfound data", description="Look at data, find damage, write shards.")
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "inspect": "draw a sheet of samples with captions",
        "verify": "decode every sample and name the damaged ones (exit code 3 when there are any)",
        "pack": "write a folder or table into tar shards",
    }
    for command, text in helps.items():
        sub = commands.add_parser(command, help=text, description=text)
        sub.add_argument("path", help="shards (pattern or folder), a table, a folder of classes, 'shapes' or 'digits'")
        sub.add_argument("--image", default="image", help="a table's column of paths")
        sub.add_argument("--caption", default="caption", help="a table's column of captions; '' for none")
        sub.add_argument("--label", help="a table's column of labels")
        if command == "inspect":
            sub.add_argument("--out", type=Path, default=Path("contact_sheet.png"), help="the PNG to write")
            sub.add_argument("--count", type=int, default=16)
            sub.add_argument("--start", type=int, default=0)
        if command == "verify":
            sub.add_argument("--workers", type=int, default=os.cpu_count() or 1)
        if command == "pack":
            sub.add_argument("--out", type=Path, required=True, help="folder to write the shards to")
            sub.add_argument("--name", default="data", help="of the shards, NAME-000000.tar")
            sub.add_argument("--shard_size", type=int, default=10_000, help="samples per shard")
    return parser
