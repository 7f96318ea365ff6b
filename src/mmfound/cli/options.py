"""Arguments of the small commands."""

import argparse
from typing import Any, NoReturn

from mmfound.errors import ConfigError

SAID_USAGE = """
what foreign weights may leave open:
  --activation NAME       quick_gelu, gelu or gelu_tanh
  --image_heads N         attention heads of the image tower
  --text_heads N          attention heads of the text tower
  --image_size N          side of the pictures in pixels; positions are resized
  --context N             most tokens of a text; positions are cut or stretched
  --override              let these win over what the weights' configuration says
"""
_NUMBERS = ("image_heads", "text_heads", "image_size", "context")
_ACTIVATIONS = ("quick_gelu", "gelu", "gelu_tanh")


class Options(argparse.ArgumentParser):
    """An argparse parser whose mistakes are ours to report.

    Args:
        command: such as `embed`.
    """

    def __init__(self, command: str) -> None:
        super().__init__(prog=f"mmfound {command}", add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Report a mistake.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.prog}: {message}; `{self.prog} --help` shows how")


def add_said(parser: argparse.ArgumentParser) -> None:
    """Options for what weights of other libraries may leave open."""
    parser.add_argument("--activation", choices=_ACTIVATIONS)
    for name in _NUMBERS:
        parser.add_argument(f"--{name}", type=positive)
    parser.add_argument("--override", action="store_true")


def take_said(chosen: argparse.Namespace) -> dict[str, Any]:
    """Those of them that were given, for `load_encoder`."""
    return {name: value for name in ("activation", *_NUMBERS, "override") if (value := getattr(chosen, name))}


def positive(text: str) -> int:
    """A whole number from 1, as argparse's `type`."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number
