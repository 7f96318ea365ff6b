"""`mmfound embed`: embeddings of a source in a file."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmfound.cli.options import SAID_USAGE, Options, add_said, positive, take_said
from mmfound.errors import ConfigError

USAGE = """usage: mmfound embed WEIGHTS SOURCE --to FILE.parquet|FILE.npy|FOLDER [options]
       mmfound embed WEIGHTS --config SOURCE.yaml --to ...

Write the embedding of every picture, with its key, its index and the fingerprints of weights and source. SOURCE is a
folder of pictures, tar shards (a folder or pattern), a table (.csv, .tsv, .jsonl, .parquet), `shapes` or `digits`. The
same command again goes on where it was ended, after a kill too. Under torchrun the processes share the work.

options:
  --to FILE            .parquet needs pyarrow; .npy gets .json and .keys.txt beside it; a folder holds embeddings.npy
  --config FILE.yaml   class_path and init_args of any source, instead of SOURCE
  --text               embed the first caption of every sample, not its picture
  --dtype float32      or float16, half the size
  --batch_size 64      samples per forward pass
  --device auto        or cpu, cuda
  --workers N          processes that read and decode
  --image NAME         a table's column of pictures (image)
  --caption NAME       a table's column of captions, for --text (caption)
  --max_bad_fraction 0.01
                       share of unreadable samples above which it ends
"""


def main(argv: list[str]) -> int:
    """Embed; 0, or an error."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE + SAID_USAGE, end="")
        return 0
    chosen = _parse(argv)
    from mmfound.embedding.joining import target

    path = target(chosen.to)  # refused before torch is imported
    import torch

    from mmfound.embedding.job import Job
    from mmfound.embedding.opening import open_place
    from mmfound.embedding.running import embed
    from mmfound.encoders import load_encoder

    place = _place(chosen)
    source = open_place(place, image=chosen.image, caption=chosen.caption if chosen.text else None)
    part_size = max(1024, -(-len(source) // 4096))
    side = "text" if chosen.text else "image"
    said = take_said(chosen)
    loaded = load_encoder(chosen.weights, **said)
    job = Job(loaded, chosen.weights, source, place, said, side=side, dtype=chosen.dtype, part_size=part_size)
    facts = embed(
        job,
        path,
        batch_size=chosen.batch_size,
        device=device_named(chosen.device, torch.cuda.is_available()),
        workers=chosen.workers,
        max_bad_fraction=chosen.max_bad_fraction,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if facts is not None:
        skipped = "".join(f", {count} left out ({kind})" for kind, count in facts["skipped"].items())
        print(f"{path}: {facts['rows']} embeddings of width {facts['embed_dim']}{skipped}")
    return 0


def device_named(name: str, has_cuda: bool) -> str:
    """The device of `--device`.

    Raises:
        ConfigError: when it is not there.
    """
    if name == "cuda" and not has_cuda:
        raise ConfigError("--device cuda: torch sees no GPU here; leave it out, or see `mmfound doctor`")
    if name != "auto":
        return name
    return "cuda" if has_cuda else "cpu"


def _place(chosen: argparse.Namespace) -> str | Mapping[str, Any]:
    if (chosen.source is None) == (chosen.config is None):
        raise ConfigError("mmfound embed: name a SOURCE or its --config, one of the two")
    if chosen.config is None:
        return chosen.source
    from mmfound.cli.recipes import read

    sys.path.insert(0, str(Path.cwd()))  # for sources of one's own
    described = read(Path(chosen.config))
    described = described.get("source", described)
    if not isinstance(described, dict) or "class_path" not in described:
        raise ConfigError(f"{chosen.config} names no class_path; write class_path and init_args of a source")
    return described


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return int(text)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Options("embed")
    parser.add_argument("weights")
    parser.add_argument("source", nargs="?")
    parser.add_argument("--to", required=True)
    parser.add_argument("--config")
    parser.add_argument("--text", action="store_true")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--batch_size", type=positive, default=64)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--workers", type=_count)
    parser.add_argument("--image", default="image")
    parser.add_argument("--caption", default="caption")
    parser.add_argument("--max_bad_fraction", type=float, default=0.01)
    add_said(parser)
    return parser.parse_args(argv)
