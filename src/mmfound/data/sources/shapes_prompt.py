"""What a caption of `Shapes` asks for, read from its words alone."""

import re
from dataclasses import dataclass

from mmfound.data.sources.shapes_scene import COLOURS, SHAPES, SIZES, TONES
from mmfound.errors import DataError

_PLACES = (
    *("top left", "top middle", "top right", "middle left", "centre", "middle right"),
    *("bottom left", "bottom middle", "bottom right"),
)
_OBJECT = re.compile(
    rf"(?P<article>\b(?:a|the) )?(?:(?P<size>{'|'.join(SIZES)}) )?(?P<colour>{'|'.join(COLOURS)}) "
    rf"(?P<shape>{'|'.join(SHAPES)})\b(?: in the (?P<place>{'|'.join(_PLACES)}))?"
)
_RELATION = re.compile(r"(?:to the )?(left of|right of|above|below)")
_BACKGROUND = re.compile(rf" on an? (?P<tone>{'|'.join(TONES)}) background$")
_BETWEEN = ("", ",", "and", ", and")


@dataclass(frozen=True)
class AskedItem:
    """One object; None where nothing is said of it.

    Attributes:
        place: as `shapes_captions.place` calls it.
    """

    colour: str
    shape: str
    size: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class Asked:
    """What a picture has to show.

    Attributes:
        items: in the order of the words.
        relations: (first, words, second): how the item of one number lies to that of another.
        background: name of the tone, or None.
    """

    items: tuple[AskedItem, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    background: str | None = None


def asked(caption: str) -> Asked:
    """Read a caption of any style, or another sentence in the same words.

    Raises:
        DataError: when some of it is not understood, or it names more than three objects, or none.
    """
    background = _BACKGROUND.search(caption)
    text = caption[: background.start()] if background else caption
    items: list[AskedItem] = []
    relations: list[tuple[int, str, int]] = []
    end, before = 0, 0
    for found in _OBJECT.finditer(text):
        between, end = text[end : found.start()].strip(), found.end()
        number = _number(found, items)
        if related := _RELATION.fullmatch(between):
            _known(caption, bool(items) and number != before)
            relations.append((before, related[1], number))
        else:
            _known(caption, between in _BETWEEN)
        if number == len(items):
            items.append(AskedItem(found["colour"], found["shape"], found["size"], found["place"]))
        before = number
    _known(caption, not text[end:].strip() and 1 <= len(items) <= 3)
    return Asked(tuple(items), tuple(relations), background["tone"] if background else None)


def _number(found: re.Match[str], items: list[AskedItem]) -> int:
    """Of the object that `the ...` means, or the next."""
    same = [n for n, item in enumerate(items) if (item.colour, item.shape) == (found["colour"], found["shape"])]
    return same[0] if found["article"] == "the " and same else len(items)


def _known(caption: str, understood: bool) -> None:
    if not understood:
        raise DataError(
            f"the prompt {caption!r} is not one of Shapes' captions, such as 'a red circle above a blue star'; "
            "ask for one to three objects in such words."
        )
