"""Command-line arguments before jsonargparse sees them: short names become paths."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmfound.cli.plugins import expand
from mmfound.cli.recipes import find, read


@dataclass(frozen=True)
class Arguments:
    """The arguments of one subcommand, with every name written out."""

    argv: list[str]
    configs: list[Path]  # recipes in the order given
    names: list[str]  # as the user wrote them

    def has(self, option: str) -> bool:
        """Whether the command line sets `option`, as `--option value` or `--option=value`."""
        return any(argument.partition("=")[0] == option for argument in self.argv)


_CONFIG = ("--config", "-c")
_CLASS = re.compile(r"--(?:model|data|[\w.]+\.class_path)")


def write_out(argv: Sequence[str]) -> Arguments:
    """Replace short names of recipes and plug-ins, and read every recipe once so that mistakes in it come first.

    Raises:
        ConfigError: for a recipe that is not there or not readable, and for an ambiguous plug-in name.
    """
    written: list[str] = []
    configs: list[Path] = []
    names: list[str] = []
    previous = ""
    for argument in argv:
        option, equals, value = argument.partition("=")
        if not equals:
            option, value = previous, argument
        if option in _CONFIG and value and not value.startswith("-"):
            path = find(value)
            read(path)
            configs.append(path)
            names.append(value)
            value = str(path)
        elif _CLASS.fullmatch(option):
            value = expand(value)
        written.append(f"{option}={value}" if equals else value)
        previous = argument
    return Arguments(written, configs, names)
