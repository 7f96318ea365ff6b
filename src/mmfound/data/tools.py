"""`mmfound data inspect|verify|pack`: look at samples, find the damaged ones, write shards."""

import argparse
import contextlib
import json
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mmfound.batch import RawSample
from mmfound.data.decode import decode
from mmfound.data.errors import BadSample
from mmfound.data.packing import Recode, pack
from mmfound.data.source import Source
from mmfound.data.sources import Arrow, ClassFolders, Digits, ParquetImages, Shapes, Table, TarShards
from mmfound.data.sources.table import holds_pictures
from mmfound.errors import ConfigError, DataError

_CELL, _COLUMNS, _TEXT = 192, 4, 56
_CHUNK = 256


def open_source(
    path: str, *, image: str = "image", caption: str | None = "caption", label: str | None = None
) -> Source:
    """The source that a path looks like.

    `shapes`, `digits`, shards, a table, a folder of classes, of shards, or of a saved `datasets` data set.

    Raises:
        DataError: when there is nothing that can be read.
    """
    if path in ("shapes", "digits"):
        return Shapes(1000) if path == "shapes" else Digits()
    if Path(path).suffix.lower() == ".parquet" and holds_pictures(path, image):
        return ParquetImages(path, image=image, caption=caption, label=label)
    if (Path(path) / "state.json").is_file() or (Path(path) / "dataset_dict.json").is_file():
        return Arrow(path, image=image, caption=caption, label=label)
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
    if start < 0 or not shown:
        raise ConfigError(f"nothing to show: start {start} and count {count} of {len(source)} samples.")
    rows = -(-len(shown) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _CELL, rows * (_CELL + _TEXT)), "white")
    for place, index in enumerate(shown):
        corner = (place % _COLUMNS * _CELL, place // _COLUMNS * (_CELL + _TEXT))
        sheet.paste(_cell(source, index), corner)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, "PNG")
    facts: dict[str, object] = {
        "samples": len(source),
        "classes": len(source.classes),
        "stretches": len(source.stretches()),
    }
    return facts | _facts(source, shown)


def _facts(source: Source, shown: range) -> dict[str, object]:
    """Of the samples that are shown: sizes, caption lengths, damage, and the first one whole."""
    good: list[RawSample] = []
    sides: list[str] = []
    for index in shown:
        with contextlib.suppress(BadSample):
            sample = source[index]
            if "image" in sample:
                _, height, width = decode(sample["image"]).shape
                sides.append(f"{width}x{height}")
            good.append(sample)
    lengths = [len(text) for sample in good for text in sample.get("captions", [])]
    facts: dict[str, object] = {"shown": len(shown), "damaged among them": len(shown) - len(good)}
    if sides:
        facts["width x height"] = ", ".join(f"{size} ({n})" for size, n in Counter(sides).most_common(4))
    if lengths:
        average = sum(lengths) / len(lengths)
        facts["caption characters"] = f"{min(lengths)} to {max(lengths)}, {average:.0f} on average"
        facts["captions per sample"] = f"{len(lengths) / len(good):.2g}"
    if good:
        facts["first sample"] = {name: _brief(value) for name, value in good[0].items()}
    return facts


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
    chunks = [range(start, min(start + _CHUNK, len(source))) for start in range(0, len(source), _CHUNK)]
    workers = min(workers, len(chunks) - 1)  # for one chunk no process is worth starting
    found = Verified(len(source))
    with contextlib.ExitStack() as stack:
        run = map
        if workers > 0:
            context = get_context("forkserver")
            pool = ProcessPoolExecutor(workers, context, initializer=_open_in_worker, initargs=(source,))
            run = stack.enter_context(pool).map
        else:
            _open_in_worker(source)
        for damaged in run(_damaged, chunks):
            for index, kind, reason in damaged:
                found.damaged.append((index, reason))
                found.by_kind[kind] += 1
    return found


_verified: list[Source] = []  # in a worker: the source, sent once and not with every chunk


def _open_in_worker(source: Source) -> None:
    _verified[:] = [source]


def _damaged(chunk: range) -> list[tuple[int, str, str]]:
    source = _verified[0]
    damaged = []
    for index in chunk:
        where = f"sample {index}"
        try:
            sample = source[index]
            where = sample["key"]
            if "image" in sample:
                decode(sample["image"])
        except BadSample as error:
            damaged.append((index, error.kind, str(BadSample(error.kind, error.detail, error.where or where))))
    return damaged


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
        recode = None
        if arguments.size is not None or arguments.quality is not None:
            recode = Recode(arguments.size, arguments.quality or Recode.quality)
        shards = pack(source, arguments.out, name=arguments.name, shard_size=arguments.shard_size, recode=recode)
        manifest = json.loads((arguments.out / "manifest.json").read_text(encoding="utf-8"))
        print(f"{manifest['samples']} samples in {len(shards)} shards: {arguments.out}")
        if manifest["left_out"]:
            print(f"{manifest['left_out']} damaged samples left out; `mmfound data verify` names them")
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
            sub.add_argument("--size", type=int, help="shrink pictures to this shorter side, as JPEG; kept by default")
            sub.add_argument("--quality", type=int, help="write pictures anew as JPEG of this quality, 1 to 100")
    return parser
