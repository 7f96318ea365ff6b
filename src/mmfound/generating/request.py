"""From what a command says to what is drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmfound.diffusion.conditioning import Conditioner
from mmfound.diffusion.given import Given
from mmfound.diffusion.pipeline import Pipeline
from mmfound.errors import ConfigError
from mmfound.generating.canvas import Canvas, central_square
from mmfound.generating.job import Subject, Variant
from mmfound.generating.loading import Loaded
from mmfound.generating.pictures import digest, read_mask, read_picture
from mmfound.generating.settings import Wishes, settings_of, told_sampling


@dataclass(frozen=True)
class Begin:
    """A picture that drawing begins with, or none.

    Args:
        given: its square.
        canvas: that what is drawn is pasted into.
        facts: of the files, as JSON.
    """

    given: Given | None = None
    canvas: Canvas | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def at(self, strength: float | None) -> "Begin":
        """The same with a strength."""
        if self.given is None or strength is None:
            return self
        return replace(self, given=replace(self.given, strength=strength), facts={**self.facts, "strength": strength})


def begin_with(image: str | None, mask: str | None, pipeline: Pipeline, say: Callable[[str], None]) -> Begin:
    """Read a picture, and the mask of what is drawn in it.

    Args:
        image: path of the picture, or None for none.
        mask: of its mask, or None.
        pipeline: that draws.
        say: told what is made of them.

    Raises:
        DataError: when one cannot be read, or they do not fit each other.
    """
    if image is None:
        return Begin()
    picture = read_picture(Path(image))
    facts = {"image": digest(Path(image))}
    if mask is None:
        square, side = central_square(picture), _first_side(pipeline)
        if tuple(picture.shape[1:]) != (side, side):
            say(f"{image}: its central {square.shape[1]} x {square.shape[2]} pixels are taken as {side} x {side}")
        return Begin(Given(square), None, facts)
    canvas = Canvas(picture, read_mask(Path(mask), picture, Path(image)), pipeline.links[-1].side)
    for link in pipeline.links:
        if link.inpainting is None:
            say(f"{link.name} was not trained to inpaint: what it draws may not go with what is around")
    box = canvas.box
    place = f"{box.side} x {box.side} pixels from row {box.top}, column {box.left} on"
    say(f"{image}: {place} are drawn at {_sides(pipeline)}")
    return Begin(canvas.given(), canvas, {**facts, "mask": digest(Path(mask))})


def subjects_of(loaded: Loaded, prompts: Sequence[str], labels: Sequence[int]) -> list[Subject]:
    """What pictures show, one for each prompt or class.

    Raises:
        ConfigError: when the stages read something else, or a prompt is too long.
    """
    loaded.check_prompts(prompts)
    _check_labels(loaded.pipeline, labels)
    if prompts and labels and len(prompts) != len(labels):
        raise ConfigError(f"{len(prompts)} prompts and {len(labels)} classes: give as many of both, they go in pairs.")
    count = max(len(prompts), len(labels), 1)
    return [Subject(_nth(prompts, number), _nth(labels, number)) for number in range(count)]


def variants_of(
    loaded: Loaded, wishes: Wishes, seed: int, begin: Begin, strength: float | None, axis: str, values: Sequence[Any]
) -> list[Variant]:
    """One, or one for each value of an axis: a field of `Wishes`, for the first stage, or `seed`, or `strength`.

    Raises:
        ConfigError: when a stage cannot be drawn so.
    """
    if not axis:
        return [_variant(loaded, wishes, seed, begin.at(strength), "")]
    found = []
    for value in values:
        wished = replace(wishes, **{axis: (value,)}) if hasattr(wishes, axis) else wishes
        started = begin.at(value if axis == "strength" else strength)
        shown = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
        found.append(_variant(loaded, wished, int(value) if axis == "seed" else seed, started, f"{axis} {shown}"))
    return found


def _variant(loaded: Loaded, wishes: Wishes, seed: int, begin: Begin, head: str) -> Variant:
    pipeline = loaded.pipeline
    pipeline.check(begin.given)
    samplings = settings_of(pipeline.links, wishes)
    stages = [
        {"export": made, **told_sampling(sampling)}
        for made, sampling in zip(loaded.fingerprints, samplings, strict=True)
    ]
    clip = {} if wishes.clip is None else {"clip": wishes.clip.loaded.fingerprint}
    return Variant(seed, samplings, {"stages": stages, **clip, **begin.facts}, begin.given, head)


def _nth(given: Sequence[Any], number: int) -> Any:
    return given[number] if given else None


def _first_side(pipeline: Pipeline) -> int:
    first = pipeline.links[0]
    return first.side if first.upsampler is None else first.upsampler.low_size


def _sides(pipeline: Pipeline) -> str:
    return " and then ".join(f"{link.side} x {link.side}" for link in pipeline.links)


def _check_labels(pipeline: Pipeline, labels: Sequence[int]) -> None:
    readers = pipeline.reads("label")
    if labels and not readers:
        names = ", ".join(link.name for link in pipeline.links)
        raise ConfigError(f"no stage reads classes ({names}); leave --label out.")
    for link in readers:
        if not labels:
            raise ConfigError(f"{link.name} draws classes; give --label N.")
        batch: dict[str, Tensor] = {"label": torch.tensor(labels)}
        for part in link.stage.conditioners:
            if isinstance(part, Conditioner) and "label" in part.reads:
                part.check(batch)
