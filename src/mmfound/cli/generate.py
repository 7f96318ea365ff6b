"""`mmfound generate`: pictures from exports of diffusion stages."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmfound.cli.options import Options, positive
from mmfound.cli.suggest import did_you_mean
from mmfound.errors import ConfigError, DataError

USAGE = """usage: mmfound generate --from EXPORT [EXPORT ...] --prompt TEXT ... | --prompts FILE [options]
       mmfound generate --from EXPORT [EXPORT ...] --image PATH --mask PATH --prompt TEXT [options]
       mmfound generate --from EXPORT [EXPORT ...] --image PATH --strength X --prompt TEXT [options]
       mmfound generate --from UPSAMPLER [EXPORT ...] --image PATH [--prompt TEXT] [options]

Draw pictures: the first export draws, each further one enlarges what the one before has drawn. Every picture is a PNG
that says in its metadata what it was drawn with; sheet.png shows all of them over their prompts. The same command again
goes on where it was ended.

what to draw:
  --prompt TEXT ...    prompts
  --prompts FILE       a prompt on each line
  --label N ...        classes, for exports that draw classes
  --n 1                pictures of each prompt
  --seed 0             of the noise; a picture depends on it, its prompt, that prompt's number and its own alone
  --to FOLDER          by default one in generated/, named after the first prompt and all settings

how to draw it; what is left out is as the exports say, and of several values each is for a stage, from the first on:
  --steps T ...        steps
  --guidance G ...     scale of classifier-free guidance; 1 is without
  --guidance_until L ...
                       log-SNR at which it ends, where outlines begin, such as 1; inf is never
  --sampler NAME ...   ddpm, ddim, euler, heun or dpmsolver2m
  --clip WEIGHTS       a CLIP that has learned noise; pulls what the first export draws towards its prompt
  --clip_scale X       how much
  --grid NAME=V,V,...  draw everything at each of these values, side by side on the sheet: of guidance,
                       guidance_until, steps, sampler or clip_scale, of the first stage; or of seed or strength

beginning with a picture of any size:
  --image PATH         with --mask, what is masked is drawn, and all other pixels stay as they are; with --strength, its
                       central square is noised and drawn anew; before an upsampler, its central square is enlarged
  --mask PATH          of the same size: WHITE (or transparent) is drawn anew, black is kept
  --strength X         share of the steps that are taken: little changes near 0, nothing is left of the picture at 1

options:
  --batch_size 16      pictures at a time; they do not depend on it but for rounding
  --device auto        or cpu, cuda
  --trust              allow exports that name classes of others, which can run any code
"""


def main(argv: list[str]) -> int:
    """Draw; 0, or an error."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    chosen = _parse(argv)
    prompts, (axis, values) = _prompts(chosen), _grid(chosen)
    import torch

    from mmfound.cli.embed import device_named
    from mmfound.generating.clip import load_clip
    from mmfound.generating.job import folder_name, pictures_of
    from mmfound.generating.loading import load_pipeline
    from mmfound.generating.request import begin_with, subjects_of, variants_of
    from mmfound.generating.running import SHEET, generate
    from mmfound.generating.settings import Wishes

    sys.path.insert(0, str(Path.cwd()))  # for classes of one's own
    device = device_named(chosen.device, torch.cuda.is_available())
    loaded = load_pipeline(chosen.exports, device, trust=chosen.trust)
    clip = None if chosen.clip is None else load_clip(chosen.clip, prompts, loaded.pipeline.links[0].side)
    subjects = subjects_of(loaded, prompts, chosen.label)
    begin = begin_with(chosen.image, chosen.mask, loaded.pipeline, _say)
    wishes = Wishes(chosen.sampler, chosen.steps, chosen.guidance, chosen.guidance_until, clip, chosen.clip_scale)
    variants = variants_of(loaded, wishes, chosen.seed, begin, chosen.strength, axis, values)
    pictures = pictures_of(subjects, chosen.n, variants)
    folder = Path(chosen.to) if chosen.to else Path("generated") / folder_name(pictures)
    try:
        drawn = generate(
            loaded.pipeline, pictures, folder, batch_size=chosen.batch_size, canvas=begin.canvas, clip=clip, say=_say
        )
    except KeyboardInterrupt:
        _say(f"pictures that are finished stay in {folder}; the same command goes on")
        raise
    there = f", {len(pictures) - drawn} were there" if drawn < len(pictures) else ""
    print(f"{folder}: {drawn} {'picture' if drawn == 1 else 'pictures'} drawn{there}; see {folder / SHEET}")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _prompts(chosen: argparse.Namespace) -> list[str]:
    if chosen.prompt and chosen.prompts is not None:
        raise ConfigError("mmfound generate: give --prompt or --prompts, one of the two")
    if chosen.prompts is None:
        unreadable = [prompt for prompt in chosen.prompt if not _is_text(prompt)]
        if unreadable:
            raise ConfigError(f"--prompt {unreadable[0]!r} is not UTF-8; write it in a file, and give --prompts FILE")
        return chosen.prompt
    try:
        lines = Path(chosen.prompts).read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"--prompts: cannot read {chosen.prompts}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"--prompts: {chosen.prompts} is not UTF-8 ({error}); save it as that") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise DataError(f"--prompts: {chosen.prompts} is empty; write a prompt on each line")
    return found


def _is_text(prompt: str) -> bool:
    """Whether it holds none of what Python makes of bytes that it cannot decode."""
    return not any("\ud800" <= letter <= "\udfff" for letter in prompt)


def _grid(chosen: argparse.Namespace) -> tuple[str, list[Any]]:
    """The axis, or an empty one, and its values."""
    if chosen.grid is None:
        return "", []
    axis, _, listed = chosen.grid.partition("=")
    if axis not in _AXES:
        hint = did_you_mean(axis, _AXES) or f"; there are {', '.join(_AXES)}"
        raise ConfigError(f"--grid {chosen.grid}: no axis {axis!r}{hint}; write --grid guidance=1,2,4")
    if axis == "strength" and chosen.image is None:
        raise ConfigError("--grid strength=... says what becomes of a picture; give --image PATH")
    if axis != "seed" and getattr(chosen, axis):
        raise ConfigError(f"--{axis} and --grid {axis}=... say the same thing; leave one out")
    try:
        values = [_AXES[axis](value.strip()) for value in listed.split(",")]
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise ConfigError(f"--grid {chosen.grid}: {error}; write --grid guidance=1,2,4") from error
    if len(set(values)) < len(values):
        raise ConfigError(f"--grid {chosen.grid} names a value twice; take one out")
    return axis, values


def _strength(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"strength {text} is not above 0 and up to 1")
    return value


def _scale(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"the scale {text} is not 0 or more")
    return value


def _log_snr(text: str) -> float:
    value = float(text)
    if value != value or value == -float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no log-SNR to guide to; leave guidance out with --guidance 1")
    return value


_AXES: dict[str, Callable[[str], Any]] = {
    "guidance": _scale,
    "guidance_until": _log_snr,
    "steps": positive,
    "sampler": str.lower,
    "clip_scale": _scale,
    "seed": int,
    "strength": _strength,
}


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Options("generate")
    parser.add_argument("--from", dest="exports", nargs="+", required=True)
    parser.add_argument("--prompt", nargs="+", default=[])
    parser.add_argument("--prompts")
    parser.add_argument("--label", type=int, nargs="+", default=[])
    parser.add_argument("--n", type=positive, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to")
    parser.add_argument("--steps", type=positive, nargs="+", default=[])
    parser.add_argument("--guidance", type=_scale, nargs="+", default=[])
    parser.add_argument("--guidance_until", type=_log_snr, nargs="+", default=[])
    parser.add_argument("--sampler", type=str.lower, nargs="+", default=[])
    parser.add_argument("--clip")
    parser.add_argument("--clip_scale", type=_scale, nargs=1, default=[])
    parser.add_argument("--grid")
    parser.add_argument("--image")
    parser.add_argument("--mask")
    parser.add_argument("--strength", type=_strength)
    parser.add_argument("--batch_size", type=positive, default=16)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--trust", action="store_true")
    chosen = parser.parse_args(argv)
    if chosen.image is None and (chosen.mask is not None or chosen.strength is not None):
        given = "--mask" if chosen.mask is not None else "--strength"
        raise ConfigError(f"mmfound generate: {given} says what becomes of a picture; give --image PATH")
    with_scale = bool(chosen.clip_scale) or (chosen.grid or "").startswith("clip_scale=")
    if (chosen.clip is not None) != with_scale:
        raise ConfigError("mmfound generate: --clip WEIGHTS and --clip_scale X go together; give both or none")
    return chosen
