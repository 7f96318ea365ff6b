"""`mmfound interpolate`: exports between two exports of one model."""

import argparse
from pathlib import Path

from mmfound.errors import ConfigError

USAGE = """usage: mmfound interpolate A B --alpha SHARE [SHARE ...] --to FOLDER

Average the weights of two exports of one model (WiSE-FT): those of A, before fine-tuning, and of B, after it. The share
of B lies in [0, 1]: 0 is A and 1 is B. The result is an export like the two.

options:
  --alpha SHARE ... share of B; of several each gets a folder of its own, FOLDER/alpha=SHARE
  --to FOLDER       where to
"""


def main(argv: list[str]) -> int:
    """Interpolate; 0, or an error."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    chosen = _parse(argv)
    from mmfound.interpolation import check_alpha, interpolate_exports

    for alpha in chosen.alpha:
        check_alpha(alpha)
    for alpha in chosen.alpha:
        to = Path(chosen.to) if len(chosen.alpha) == 1 else Path(chosen.to) / f"alpha={alpha:g}"
        interpolate_exports(chosen.a, chosen.b, alpha, to)
        print(f"exported {1 - alpha:g} of {chosen.a} + {alpha:g} of {chosen.b} to {to}")
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise ConfigError(f"mmfound interpolate: {message}; `mmfound interpolate --help` shows how")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="mmfound interpolate", add_help=False, allow_abbrev=False)
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--alpha", type=float, nargs="+", required=True)
    parser.add_argument("--to", required=True)
    return parser.parse_args(argv)
