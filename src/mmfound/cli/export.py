"""`mmfound export`: weights of ours or of another library, in our format or another library's."""

import argparse
from pathlib import Path
from typing import Any

from mmfound.errors import ConfigError

USAGE = """usage: mmfound export WEIGHTS --to PATH [--format openai|open_clip|hf] [options]

Write a dual encoder in another format. WEIGHTS is an export of ours; or a file or folder of OpenAI's, open_clip's or
Hugging Face's CLIP or SigLIP. Without --format PATH becomes an export of ours, which recipes name.

options:
  --to PATH               a folder, or for openai a file such as model.pt; must not be there
  --format FORMAT         openai (one file in float16), open_clip (a folder), hf (a folder, ViTs alone)

what foreign weights may leave open:
  --activation NAME       quick_gelu, gelu or gelu_tanh
  --image_heads N         attention heads of the image tower
  --text_heads N          attention heads of the text tower
  --image_size N          side of the pictures in pixels; positions are resized
  --context N             most tokens of a text; positions are cut or stretched
  --override              let these win over what the weights' configuration says
"""
FORMATS = ("openai", "open_clip", "hf")
ACTIVATIONS = ("quick_gelu", "gelu", "gelu_tanh")


def main(argv: list[str]) -> int:
    """Export; 0, or an error."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    chosen = vars(_parse(argv))
    path, to, target = Path(chosen.pop("weights")), Path(chosen.pop("to")), chosen.pop("format")
    _write(path, to, target, {name: value for name, value in chosen.items() if value})
    print(f"{path} written to {to}" + (f" for {target}" if target else ""))
    return 0


def _write(path: Path, to: Path, target: Any, said: dict[str, Any]) -> None:
    from mmfound import weights
    from mmfound.encoders import load_encoder
    from mmfound.interop import exports

    loaded, described = load_encoder(path, **said), weights.describe(path, **said)
    if target is not None:
        exports.write(loaded.encoder, described, loaded.tokenizer, target, to)
    elif to.exists():
        raise ConfigError(f"{to} is there already and would be overwritten; move it, or name another")
    else:
        image = described.get("image")
        weights.export(loaded.encoder, described, to, tokenizer=loaded.tokenizer, image=image)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise ConfigError(f"mmfound export: {message}; `mmfound export --help` shows how")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="mmfound export", add_help=False, allow_abbrev=False)
    parser.add_argument("weights")
    parser.add_argument("--to", required=True)
    parser.add_argument("--format", choices=FORMATS)
    parser.add_argument("--activation", choices=ACTIVATIONS)
    for name in ("image_heads", "text_heads", "image_size", "context"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--override", action="store_true")
    return parser.parse_args(argv)
