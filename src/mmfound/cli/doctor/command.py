"""The command line of `mmfound doctor`."""

import argparse
import os
from pathlib import Path
from typing import NoReturn

from mmfound.cli.doctor import cluster, machine
from mmfound.cli.suggest import did_you_mean
from mmfound.errors import ConfigError

_OPTIONS = ("--ranks", "--folder", "--data", "--timeout_s", "--help")
_DESCRIPTION = """What this machine, environment and cluster have; with --ranks, under srun or torchrun, whether all
ranks can talk and see the same files (exit code 2 where not)."""


def main(argv: list[str]) -> int:
    """Print the report; exit code 0 whatever it finds, unless ranks are asked."""
    options = _parse(argv)
    if options.ranks:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # less is said in our words
        from mmfound.cli.doctor.ranks import check  # imports torch

        return check(options.folder, options.data, options.timeout_s)
    if options.data is not None:
        raise ConfigError("--data is compared over ranks: add --ranks; for one process there is `mmfound data verify`")
    if not options.folder.is_dir():
        raise ConfigError(f"no folder {str(options.folder)!r}; --folder takes one that exists")
    for name, value in (*machine.facts(), *cluster.facts(options.folder)):
        print(f"{name:<18} {value}")
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        wrong = message.partition("unrecognized arguments: ")[2].split()
        hint = did_you_mean(wrong[0].split("=")[0], _OPTIONS) or f"; it takes {', '.join(_OPTIONS)}" if wrong else ""
        raise ConfigError(f"`mmfound doctor`: {message}{hint}")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="mmfound doctor", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--ranks", action="store_true", help="let all ranks meet, talk and look at the same files")
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="where runs are written; the current one by default"
    )
    parser.add_argument("--data", type=Path, help="with --ranks: a file or folder that every rank must see")
    parser.add_argument("--timeout_s", type=float, default=60.0, help="with --ranks: how long to wait for all (60)")
    options = parser.parse_args(argv)
    if not 0 < options.timeout_s < float("inf"):
        raise ConfigError(f"--timeout_s {options.timeout_s}: it must be a number of seconds greater than 0")
    return options
