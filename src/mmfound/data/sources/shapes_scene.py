"""Scenes of coloured shapes: what is in a picture, drawn from a number, before anything is rendered or said.

Lengths are fractions of the picture's side; x counts from the left, y from the top.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (230, 30, 40),
    "green": (40, 165, 60),
    "blue": (45, 75, 225),
    "yellow": (245, 215, 40),
    "purple": (145, 50, 190),
    "brown": (150, 85, 30),
    "cyan": (50, 205, 215),
    "pink": (250, 125, 185),
}  # all begin with a consonant: "a {}" fits every class
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "diamond")
SIZES = {"small": 0.14, "medium": 0.19, "large": 0.25}  # radius of the circle around the shape
TONES = {"black": (0, 14), "dark grey": (50, 85), "light grey": (190, 225), "white": (244, 255)}  # both ends included
SPLITS = ("train", "val", "test")
CLASSES = tuple(f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES))

_STEPS = 1024  # places along a side, for each split
_ATTEMPTS = 40  # of placing one object before the sizes are drawn anew

Look = tuple[str, str, str]  # colour, shape, size


@dataclass(frozen=True)
class Item:
    """One object of a scene; the shape lies inside the circle of `radius` around (x, y)."""

    colour: str
    shape: str
    size: str
    x: float
    y: float

    @property
    def radius(self) -> float:
        """Radius of the surrounding circle."""
        return SIZES[self.size]

    @property
    def name(self) -> str:
        """Colour and shape, a class name; no two items of a scene share it."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Items from left to right on a plain background of grey level `tone`, 0..255; they do not overlap."""

    items: tuple[Item, ...]
    tone: int

    @property
    def background(self) -> str:
        """Name of the tone."""
        return next(name for name, (lowest, highest) in TONES.items() if lowest <= self.tone <= highest)

    def digest(self) -> bytes:
        """Equal for equal scenes and (but for hash collisions) only for them, in any process."""
        return blake2b(repr(self).encode(), digest_size=16).digest()


def draw_scene(
    seed: int, split: str, index: int, *, counts: tuple[int, int], looks: Sequence[Look], backgrounds: Sequence[str]
) -> Scene:
    """The scene of a number: a pure function of the arguments.

    The splits have no scene in common, whatever the seeds: x is a multiple of 1/3072 whose remainder by three is the
    split's.

    Args:
        seed: of the data set.
        split: one of `SPLITS`.
        index: number of the sample.
        counts: fewest and most items.
        looks: (colour, shape, size) that may occur; drawn uniformly, then drawn anew where they do not fit together.
        backgrounds: names of tones that may occur, drawn uniformly.
    """
    key = blake2b(f"shapes {seed} {split} {index}".encode(), digest_size=16).digest()
    draw = random.Random(int.from_bytes(key, "big")).random  # the stream of this method is fixed across versions
    count = counts[0] + int(draw() * (counts[1] - counts[0] + 1))
    lowest, highest = TONES[backgrounds[int(draw() * len(backgrounds))]]
    tone = lowest + int(draw() * (highest - lowest + 1))
    while True:
        items = _place(draw, _distinct(draw, looks, count), SPLITS.index(split))
        if items:
            return Scene(tuple(sorted(items, key=lambda item: (item.x, item.y))), tone)


def _distinct(draw: Callable[[], float], looks: Sequence[Look], count: int) -> list[Look]:
    """`count` looks that differ in colour or shape."""
    chosen: list[Look] = []
    while len(chosen) < count:
        look = looks[int(draw() * len(looks))]
        if all(look[:2] != other[:2] for other in chosen):
            chosen.append(look)
    return chosen


def _place(draw: Callable[[], float], looks: Sequence[Look], remainder: int) -> list[Item]:
    """Items apart from one another, or nothing where they do not fit."""
    items: list[Item] = []
    for look in looks:
        radius = SIZES[look[2]]
        for _ in range(_ATTEMPTS):
            column, row = (int((radius + draw() * (1 - 2 * radius)) * _STEPS) for _ in range(2))
            item = Item(*look, x=(3 * column + remainder) / (3 * _STEPS), y=row / _STEPS)
            if all((item.x - o.x) ** 2 + (item.y - o.y) ** 2 >= (radius + o.radius) ** 2 for o in items):
                items.append(item)
                break
        else:
            return []
    return items
