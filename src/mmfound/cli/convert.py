"""`mmfound convert`: one file, or an export, from a checkpoint of any strategy and number of ranks."""

import argparse
import sys
from pathlib import Path

from mmfound.errors import ConfigError

USAGE = """usage: mmfound convert CHECKPOINT [--to FILE | --export FOLDER] [--weights_only false]

Put together what several ranks have written. CHECKPOINT is a run folder, whose newest good checkpoint is taken, or a
checkpoint in its `checkpoints/`. Without an option the checkpoint becomes one file under its own name, from which any
strategy and any number of ranks goes on.

options:
  --to FILE         write the file there, and leave the checkpoint as it is
  --export FOLDER   write the trained module for the next stage (its average, where the run evaluates with one)
  --weights_only false
                    do not look for what could run code; for checkpoints you made
"""


def main(argv: list[str]) -> int:
    """Convert; 0, or an error."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    chosen = _parse(argv)
    sys.path.insert(0, str(Path.cwd()))  # for tasks of one's own
    from mmfound.runs import converting

    checkpoint = converting.find(Path(chosen.checkpoint))
    trusted = chosen.weights_only.lower() == "false"
    if chosen.export is not None:
        converting.to_export(checkpoint, Path(chosen.export), trusted)
        print(f"exported {checkpoint} to {chosen.export}")
        return 0
    out = checkpoint if chosen.to is None else Path(chosen.to)
    if out == checkpoint and checkpoint.is_file():
        print(f"{checkpoint} is one file already: any strategy and number of ranks goes on from it")
        return 0
    converting.to_file(checkpoint, out, trusted)
    print(f"{out}: one file, from which any strategy and number of ranks goes on")
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise ConfigError(f"mmfound convert: {message}; `mmfound convert --help` shows how")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="mmfound convert", add_help=False, allow_abbrev=False)
    parser.add_argument("checkpoint")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--to")
    where.add_argument("--export")
    parser.add_argument("--weights_only", default="true")
    return parser.parse_args(argv)
