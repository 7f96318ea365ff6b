"""`mmfound score`: zero-shot accuracy of weights on a folder of classes, by `mmfound test` on `eval/score`."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmfound.cli.options import SAID_USAGE, Options, add_said, positive, take_said
from mmfound.errors import ConfigError

RECIPE = "eval/score"
_PARTS = ("model.encoder", "data.tokenizer", "data.eval_image")  # that come from the weights
USAGE = """usage: mmfound score WEIGHTS FOLDER [options] [options of `mmfound test`]

Zero-shot accuracy of weights, ours or downloaded, on FOLDER, which has a folder of pictures per class: `mmfound test`
with the recipe `eval/score`. Other options go to `mmfound test`, such as --config machines/gpu.

options:
  --templates T ...   sentences with {} for the class, or a file of them, or imagenet, imagenet_simple
  --classes FILE      names of the classes, in the alphabetical order of the folders
  --batch_size 64     pictures per forward pass, over all processes
  --run_dir DIR       where the results go; runs/score/NAME of the weights
"""


def main(argv: list[str]) -> int:
    """Score; 0, or an error."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE + SAID_USAGE, end="")
        return 0
    chosen, rest = _parse(argv)
    arguments = [*translated(chosen), *rest]
    from mmfound.cli.training import main as run

    return run("test", arguments)


def translated(chosen: argparse.Namespace) -> list[str]:
    """The arguments of `mmfound test`."""
    if not Path(chosen.weights).exists():
        raise ConfigError(f"no weights at {chosen.weights}; name an export (with module.yaml) or downloaded weights")
    init: dict[str, Any] = {"root": chosen.folder}
    if chosen.classes is not None:
        init["classes"] = _names(Path(chosen.classes))
    source = {"class_path": "mmfound.data.ClassFolders", "init_args": init}
    zero_shot = {"source": source, **({"templates": _templates(chosen.templates)} if chosen.templates else {})}
    evaluator = {"class_path": "mmfound.evaluation.ZeroShot", "init_args": zero_shot}
    return [
        *("--config", RECIPE),
        *("--run_dir", chosen.run_dir or str(Path("runs/score") / name_of(Path(chosen.weights)))),
        *(argument for part in _PARTS for argument in _of_part(part, {"weights": chosen.weights, **take_said(chosen)})),
        *("--data.global_batch_size", str(chosen.batch_size)),
        *("--data.source.root", chosen.folder),
        *("--evaluators", json.dumps([evaluator])),
    ]


def name_of(weights: Path) -> str:
    """A name for results: an export's is that of its run, as they are all called `export`."""
    resolved = weights.resolve()
    named = resolved.parent if resolved.name == "export" else resolved
    return named.stem if named.is_file() else named.name


def _of_part(part: str, given: Mapping[str, Any]) -> list[str]:
    return [word for name, value in given.items() for word in (f"--{part}.init_args.{name}", str(value))]


def _templates(given: list[str]) -> list[str] | str:
    return given[0] if len(given) == 1 else given


def _names(path: Path) -> list[str]:
    from mmfound.text.prompts import load_class_names

    return load_class_names(path)


def _parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = Options("score")
    parser.add_argument("weights")
    parser.add_argument("folder")
    parser.add_argument("--templates", nargs="+")
    parser.add_argument("--classes")
    parser.add_argument("--batch_size", type=positive, default=64)
    parser.add_argument("--run_dir")
    add_said(parser)
    return parser.parse_known_args(argv)
