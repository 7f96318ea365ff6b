"""`mmfound export`: weights of ours or of another library, in our format or another library's."""

import argparse
from pathlib import Path
from typing import Any

from mmfound.cli.options import SAID_USAGE, Options, add_said, take_said
from mmfound.errors import ConfigError

USAGE = """usage: mmfound export WEIGHTS --to PATH [--format openai|open_clip|hf] [options]

Write a dual encoder in another format. WEIGHTS is an export of ours; or a file or folder of OpenAI's, open_clip's or
Hugging Face's CLIP or SigLIP. Without --format PATH becomes an export of ours, which recipes name. A released file of
GLIDE (base.pt, upsample.pt, ...) becomes the export of a stage, which `mmfound generate` draws with.

options:
  --to PATH               a folder, or for openai a file such as model.pt; must not be there
  --format FORMAT         openai (one file in float16), open_clip (a folder), hf (a folder, ViTs alone)
  --vocabulary PATH       of GLIDE: GPT-2's vocab.bpe (.gz), by default that beside WEIGHTS; without one, the export
                          cannot be prompted
"""
FORMATS = ("openai", "open_clip", "hf")


def main(argv: list[str]) -> int:
    """Export; 0, or an error."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE + SAID_USAGE, end="")
        return 0
    chosen = _parse(argv)
    path, to = Path(chosen.weights), Path(chosen.to)
    _write(path, to, chosen.format, chosen.vocabulary, take_said(chosen))
    print(f"{path} written to {to}" + (f" for {chosen.format}" if chosen.format else ""))
    return 0


def _write(path: Path, to: Path, target: Any, vocabulary: Path | None, said: dict[str, Any]) -> None:
    from mmfound import weights
    from mmfound.encoders import load_encoder
    from mmfound.files import writing
    from mmfound.interop import exports

    if target is None and to.exists():
        raise ConfigError(f"{to} is there already and would be overwritten; move it, or name another")
    described = weights.describe(path, **said)
    if _is_glide(path, described):
        module, tokenizer = _glide(path, described, target, vocabulary, said)
    elif vocabulary is not None:
        raise ConfigError(f"--vocabulary is for released weights of GLIDE, and {path} holds others; leave it out")
    else:
        loaded = load_encoder(path, **said)
        module, tokenizer = loaded.encoder, loaded.tokenizer
    if target is not None:
        exports.write(module, described, tokenizer, target, to)
    else:
        with writing(to):
            weights.export(module, described, to, tokenizer=tokenizer, image=described.get("image"))


def _is_glide(path: Path, described: Any) -> bool:
    from mmfound.interop.files import is_foreign

    return is_foreign(path) and described["class_path"] == "mmfound.diffusion.Stage"


def _glide(path: Path, described: Any, target: Any, vocabulary: Path | None, said: dict[str, Any]) -> tuple[Any, Any]:
    """The stage, and its tokenizer or None."""
    from mmfound import weights
    from mmfound.interop.files import find
    from mmfound.interop.glide_stage import text_of
    from mmfound.interop.tokenizers import glide_tokenizer

    if target is not None:
        raise ConfigError(f"--format {target} is for dual encoders, and {path} holds a stage of GLIDE; leave it out")
    tokenizer = glide_tokenizer(find(path), text_of(described), vocabulary)
    if tokenizer is None:
        print(f"no vocab.bpe beside {path}: what is written cannot be prompted; --vocabulary names one")
    return weights.pretrained(path, **said), tokenizer


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Options("export")
    parser.add_argument("weights")
    parser.add_argument("--to", required=True)
    parser.add_argument("--format", choices=FORMATS)
    parser.add_argument("--vocabulary", type=Path)
    add_said(parser)
    return parser.parse_args(argv)
