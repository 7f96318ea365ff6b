"""Pictures of coloured shapes, drawn from their index: endless, licence-free, and with exactly known contents."""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Literal, get_args

from mmfound.batch import RawSample
from mmfound.data.source import Source
from mmfound.data.sources.shapes_captions import STYLES, Style, captions
from mmfound.data.sources.shapes_render import render
from mmfound.data.sources.shapes_scene import CLASSES, COLOURS, SHAPES, SIZES, Look, Scene, draw_scene
from mmfound.errors import ConfigError, DataError

Split = Literal["train", "val", "test"]
HeldOut = Literal["colour_shape", "colour_size", "shape_size"]
Background = Literal["black", "dark grey", "light grey", "white"]


class Shapes(Source):
    """One to three coloured shapes on a plain background, with captions, relations and attributes.

    A sample is a pure function of (seed, split, index, size), and no scene is in two splits. `meta` holds the items
    (colour, shape, size, x, y, radius as fractions of the side, y downwards), the background's tone and its name.

    Attributes:
        classes: the 64 pairs of colour and shape where every picture has one object, else empty; `label` likewise.

    Args:
        count: number of pictures; a larger one begins with the same.
        size: side of the pictures in pixels, at least 8.
        split: no picture of one split is in another.
        objects: fewest and most objects in a picture, within 1..3.
        styles: which captions, in this order; see `shapes_captions.caption`.
        backgrounds: which tones; the dark ones make learning harder, or test a model that never saw them.
        seed: another number, other pictures.
        held_out: attributes of which every eighth (`colour_shape`) or third combination is kept from train and val;
            test then shows those alone.

    Raises:
        ConfigError: when an argument is out of range.
    """

    def __init__(
        self,
        count: int = 20_000,
        size: int = 64,
        *,
        split: Split = "train",
        objects: tuple[int, int] = (1, 3),
        styles: Sequence[Style] = STYLES,
        backgrounds: Sequence[Background] = ("light grey", "white"),
        seed: int = 0,
        held_out: HeldOut | None = None,
    ) -> None:
        _check("count", count, count >= 1, "at least 1")
        _check("size", size, size >= 8, "at least 8 pixels")
        _check("split", split, split in get_args(Split), f"one of {get_args(Split)}")
        _check(
            "objects", objects, len(objects) == 2 and 1 <= objects[0] <= objects[1] <= 3, "[fewest, most] within 1..3"
        )
        _check("styles", styles, bool(styles) and set(styles) <= set(STYLES), f"some of {STYLES}")
        tones = get_args(Background)
        _check("backgrounds", backgrounds, bool(backgrounds) and set(backgrounds) <= set(tones), f"some of {tones}")
        _check("held_out", held_out, held_out in (None, *get_args(HeldOut)), f"null or one of {get_args(HeldOut)}")
        self.count = count
        self.size = size
        self.split: Split = split
        self.objects = (objects[0], objects[1])
        self.styles = tuple(styles)
        self.backgrounds = tuple(backgrounds)
        self.seed = seed
        self.held_out: HeldOut | None = held_out
        self.classes = CLASSES if self.objects == (1, 1) else ()
        self._looks = _looks(split, held_out)

    def __len__(self) -> int:
        """Number of pictures."""
        return self.count

    def __getitem__(self, index: int) -> RawSample:
        """The picture at `index`, drawn."""
        scene = self.scene(index)
        sample: RawSample = {
            "key": f"shapes-{self.seed}-{self.split}-{index:08d}",
            "image": render(scene, self.size),
            "captions": captions(scene, self.styles),
            "meta": describe(scene),
        }
        if self.classes:
            sample["label"] = CLASSES.index(scene.items[0].name)
        return sample

    def scene(self, index: int) -> Scene:
        """What is in the picture at `index`, without drawing it."""
        if not 0 <= index < self.count:
            raise IndexError(f"Shapes has {self.count} pictures; there is no number {index}")
        return draw_scene(
            self.seed, self.split, index, counts=self.objects, looks=self._looks, backgrounds=self.backgrounds
        )

    def captions(self) -> Iterable[str]:
        """All captions, in order, without drawing."""
        for index in range(self.count):
            yield from captions(self.scene(index), self.styles)

    def fingerprint(self) -> str:
        """Every argument that changes a sample."""
        drawn = f"{self.seed}:{self.split}:{self.count}:{self.size}:{self.objects}:{self.held_out}"
        return f"Shapes:1:{drawn}:{','.join(self.backgrounds)}:{','.join(self.styles)}"


def describe(scene: Scene) -> dict[str, object]:
    """The scene in plain JSON types."""
    items = [
        {"colour": i.colour, "shape": i.shape, "size": i.size, "x": i.x, "y": i.y, "radius": i.radius}
        for i in scene.items
    ]
    return {"objects": items, "tone": scene.tone, "background": scene.background}


def assert_disjoint(first: Shapes, second: Shapes) -> None:
    """Compare all scenes of two sources.

    Raises:
        DataError: naming the first scene that both have.
    """
    seen = {first.scene(index).digest() for index in range(len(first))}
    for index in range(len(second)):
        if second.scene(index).digest() in seen:
            raise DataError(f"{second.fingerprint()} shows at {index} a picture that is also in {first.fingerprint()}")


def _looks(split: Split, held_out: HeldOut | None) -> list[Look]:
    looks: list[Look] = list(product(COLOURS, SHAPES, SIZES))
    if held_out is None:
        return looks
    return [look for look in looks if _is_held_out(look, held_out) == (split == "test")]


def _is_held_out(look: Look, held_out: HeldOut) -> bool:
    """Diagonals of the table: every value of both attributes is kept from some partners and seen with others."""
    colour, shape, size = list(COLOURS).index(look[0]), SHAPES.index(look[1]), list(SIZES).index(look[2])
    if held_out == "colour_shape":
        return colour == shape
    return ((colour if held_out == "colour_size" else shape) + size) % 3 == 0


def _check(name: str, value: object, fits: bool, allowed: str) -> None:
    if not fits:
        raise ConfigError(f"Shapes: {name} is {value}; it must be {allowed}")
