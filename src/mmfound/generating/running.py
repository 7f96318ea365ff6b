"""Draws what is missing of a job, batch by batch, and then the sheet."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from mmfound.diffusion.pipeline import Pipeline
from mmfound.errors import ConfigError, DataError
from mmfound.files import writing
from mmfound.generating.canvas import Canvas
from mmfound.generating.files import facts_of, is_drawn, write_picture
from mmfound.generating.job import Picture, batches_of
from mmfound.generating.pictures import to_pixels
from mmfound.generating.progress import Progress
from mmfound.sheets import contact_sheet

if TYPE_CHECKING:
    from mmfound.generating.clip import Clip  # brings Lightning along, which takes seconds

SHEET = "sheet.png"
_ON_SHEET = 256  # pictures
_COLUMNS = 8


def generate(
    pipeline: Pipeline,
    pictures: Sequence[Picture],
    folder: Path,
    *,
    batch_size: int = 16,
    canvas: Canvas | None = None,
    clip: "Clip | None" = None,
    say: Callable[[str], None] = print,
) -> int:
    """Draw a job into a folder, going on where an earlier start was ended.

    A batch of which a picture is missing is drawn as a whole, so that the files have the same bytes as without the
    interruption.

    Args:
        pipeline: draws.
        pictures: of `pictures_of`.
        folder: made where it is missing.
        batch_size: pictures at a time.
        canvas: that each is pasted into.
        clip: that guides; it reads the prompts.
        say: told what was there before.

    Returns:
        How many were missing.

    Raises:
        ConfigError: when a picture of these names was drawn otherwise, or a batch does not fit the device's memory.
        DataError: when a network gives what is no number.
        DiskFullError: when there is no room; pictures that are there stay.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if (folder / SHEET).exists():
        facts_of(folder / SHEET)  # somebody else's is not written over
    missing = {picture.name for picture in pictures if not is_drawn(folder / picture.name, picture.facts)}
    batches = [b for b in batches_of(pictures, batch_size) if any(picture.name in missing for picture in b)]
    if missing and len(missing) < len(pictures):
        say(f"{len(pictures) - len(missing)} of {len(pictures)} pictures are there already in {folder}")
    steps = [_steps(batch[0]) for batch in batches]
    with Progress(len(missing), sum(steps)) as progress:
        for number, batch in enumerate(batches):
            pixels = _drawn(pipeline, batch, progress, clip)
            if canvas is not None:
                pixels = [canvas.paste(one) for one in pixels]
            for picture, one in zip(batch, pixels, strict=True):
                # Another process may have drawn it meanwhile: the same, or with other settings, which is refused.
                if picture.name in missing and not is_drawn(folder / picture.name, picture.facts):
                    write_picture(folder / picture.name, one, picture.facts)
            progress.finish_batch(sum(picture.name in missing for picture in batch), sum(steps[: number + 1]))
    _write_sheet(pictures, folder, say)
    return len(missing)


def _drawn(pipeline: Pipeline, batch: Sequence[Picture], progress: Progress, clip: "Clip | None") -> list[np.ndarray]:
    """[S, S, 3] uint8 of each."""
    told: dict[str, Any] = {}
    prompts = [picture.subject.prompt for picture in batch if picture.subject.prompt is not None]
    if prompts:
        told["prompt"] = prompts
    if clip is not None:
        told.update(clip.read(prompts))
    if batch[0].subject.label is not None:
        told["label"] = torch.tensor([picture.subject.label for picture in batch])
    variant = batch[0].variant
    try:
        image = pipeline.draw(
            told,
            [picture.index for picture in batch],
            variant.seed,
            samplings=variant.samplings,
            given=variant.given,
            watch=progress.watched,
        )
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"{len(batch)} pictures at a time do not fit the memory of {pipeline.device}; lower --batch_size. ({error})"
        ) from error
    if not image.isfinite().all():
        names = ", ".join(link.name for link in pipeline.links)
        raise DataError(f"the network gives what is no number; {names}: weights are damaged, or a run has diverged.")
    return list(to_pixels(image).numpy())


def _steps(picture: Picture) -> int:
    """Of all stages; fewer of the first where a strength cuts its way short."""
    first, *rest = (sampling.steps for sampling in picture.variant.samplings)
    given = picture.variant.given
    if given is not None and given.strength is not None:
        first = max(1, round(given.strength * first))
    return first + sum(rest)


def _write_sheet(pictures: Sequence[Picture], folder: Path, say: Callable[[str], None]) -> None:
    """Variants side by side, or else what belongs to a prompt, or just in rows."""
    heads = list(dict.fromkeys(picture.variant.head for picture in pictures))
    per_variant = len(pictures) // len(heads)
    ordered = [picture for place in range(per_variant) for picture in pictures[place::per_variant]]
    of_first = sum(picture.subject is pictures[0].subject for picture in pictures[:per_variant])
    in_row = of_first if 1 < of_first <= _COLUMNS else min(_COLUMNS, len(pictures))
    columns = len(heads) if len(heads) > 1 else in_row
    shown = ordered[: max(columns, _ON_SHEET // columns * columns)]
    if len(shown) < len(ordered):
        say(f"{SHEET} shows the first {len(shown)} of {len(ordered)} pictures")
    pixels = (_pixels(folder / picture.name) for picture in shown)  # one at a time: they may be large
    texts = [picture.subject.text for picture in shown]
    sheet = contact_sheet(pixels, texts, columns, heads if len(heads) > 1 else ())
    write_picture(folder / SHEET, np.asarray(sheet), {"pictures": [picture.name for picture in shown]})


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
