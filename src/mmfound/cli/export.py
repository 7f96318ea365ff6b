"""`mmfound export`: weights of ours or of another library, in our format or another library's."""

import argparse
from pathlib import Path
from typing import Any

from mmfound.cli.options import SAID_USAGE, Options, add_said, take_said
from mmfound.errors import ConfigError

USAGE = """usage: mmfound export WEIGHTS --to PATH [--format openai|open_clip|hf] [options]

Write a dual encoder in another format. WEIGHTS is an export of ours; or a file or folder of OpenAI's, open_clip's or
Hugging Face's CLIP or SigLIP. Without --format PATH becomes an export of ours, which recipes name.

options:
  --to PATH               a folder, or for openai a file such as model.pt; must not be there
  --format FORMAT         openai (one file in float16), open_clip (a folder), hf (a folder, ViTs alone)
"""
FORMATS = ("openai", "open_clip", "hf")


def main(argv: list[str]) -> int:
    """Export; 0, or an error."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE + SAID_USAGE, end="")
        return 0
    chosen = _parse(argv)
    path, to = Path(chosen.weights), Path(chosen.to)
    _write(path, to, chosen.format, take_said(chosen))
    print(f"{path} written to {to}" + (f" for {chosen.format}" if chosen.format else ""))
    return 0


def _write(path: Path, to: Path, target: Any, said: dict[str, Any]) -> None:
    from mmfound import weights
    from mmfound.encoders import load_encoder
    from mmfound.files import writing
    from mmfound.interop import exports

    loaded, described = load_encoder(path, **said), weights.describe(path, **said)
    if target is not None:
        exports.write(loaded.encoder, described, loaded.tokenizer, target, to)
    elif to.exists():
        raise ConfigError(f"{to} is there already and would be overwritten; move it, or name another")
    else:
        image = described.get("image")
        with writing(to):
            weights.export(loaded.encoder, described, to, tokenizer=loaded.tokenizer, image=image)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Options("export")
    parser.add_argument("weights")
    parser.add_argument("--to", required=True)
    parser.add_argument("--format", choices=FORMATS)
    add_said(parser)
    return parser.parse_args(argv)
