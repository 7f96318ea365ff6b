"""Does a picture of shapes show what a prompt asks for? Independent of what drew the picture.

Shape letters: B pictures, S side.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product

from torch import Tensor

from mmfound.data.sources.shapes_captions import place, relation
from mmfound.data.sources.shapes_fit import EXPLAINED_BOUND, RESIDUAL_BOUND, Fit, ShapesFit
from mmfound.data.sources.shapes_prompt import Asked, AskedItem, asked
from mmfound.data.sources.shapes_scene import TONES, Item
from mmfound.diffusion.conditioning.low_resolution import downsampled
from mmfound.errors import ConfigError

ATTRIBUTES = ("color", "shape", "size", "position", "relation")  # those that make up "all"
SCORES = ("all", *ATTRIBUTES, "background", "found", "detector", "agreement")

_SMALLEST = 16

Verdict = Mapping[str, bool]  # of what the prompt says something, by the names of SCORES; "all" and "found" always


@dataclass(frozen=True)
class Judge:
    """Compares pictures to prompts by fitting the renderer.

    A verdict has "found": whether as many objects as asked for are there and nothing else; without, all else is wrong.
    An attribute is right when it is of every object that the prompt gives it for, where the objects are matched to
    those of the prompt so that most is right. "all" joins colour, shape, and of size, position and relation what the
    prompt says; the background is judged apart from it, as no attribute of an object.

    Args:
        residual: largest root mean square of the error, RGB in [0, 1], over any square as wide as a small object.
        explained: smallest share of every object's squared contrast that the fit has to explain.
        border: share of the side by which a centre may lie beyond the ninth, or the diagonal of a relation, that the
            prompt names; by default what the fit is good to, a sixtieth of a pixel at 32 pixels.
        side: to which larger pictures are made small first, in pixels; by default they are judged as they are. An
            outline that is off by the same share of a picture is a larger error the more pixels the picture has.

    Raises:
        ConfigError: when a bound is out of its range, or the side below 16.
    """

    residual: float = RESIDUAL_BOUND
    explained: float = EXPLAINED_BOUND
    border: float = 0.0005
    side: int | None = None

    def __post_init__(self) -> None:
        if not (0 < self.residual <= 1 and self.explained <= 1 and 0 <= self.border <= 0.1):
            raise ConfigError(
                f"Judge: residual {self.residual} must lie in (0, 1], explained {self.explained} be at most 1, and "
                f"border {self.border} lie in [0, 0.1]."
            )
        if self.side is not None and self.side < _SMALLEST:
            raise ConfigError(f"Judge: side is {self.side}; below {_SMALLEST} pixels shapes cannot be told apart.")

    def fits(self, image: Tensor, prompts: Sequence[str]) -> list[Fit]:
        """The nearest scene of as many objects as each prompt names.

        Args:
            image: [B, 3, S, S] RGB in [0, 1].
            prompts: B of them.

        Raises:
            DataError: when a prompt is not understood.
        """
        if self.side is not None and image.shape[-1] > self.side:
            image = downsampled(image, self.side)
        counts = [len(asked(prompt).items) for prompt in prompts]
        found: dict[int, Fit] = {}
        for objects in sorted(set(counts)):
            rows = [row for row, count in enumerate(counts) if count == objects]
            found |= zip(rows, ShapesFit()(image[rows], objects), strict=True)
        return [found[row] for row in range(len(counts))]

    def verdict(self, fit: Fit, prompt: str) -> Verdict:
        """What is right about a fitted picture; a scene of another number of objects is not found."""
        return self.compare(fit, asked(prompt))

    def compare(self, fit: Fit, wanted: Asked) -> Verdict:
        """`verdict` for a prompt that has been read."""
        there = fit.found(self.residual, self.explained) and len(fit.scene.items) == len(wanted.items)
        best = self._best(fit.scene.items, wanted) if there else dict.fromkeys(_said(wanted), False)
        verdict = {"all": all(best.values()), **best, "found": there}
        if wanted.background is not None:
            lowest, highest = TONES[wanted.background]
            verdict["background"] = there and lowest - 5 <= fit.scene.tone <= highest + 5  # tones in between are rare
        return verdict

    def _best(self, items: Sequence[Item], wanted: Asked) -> dict[str, bool]:
        return max(
            (self._matched(order, wanted) for order in permutations(items)), key=lambda right: sum(right.values())
        )

    def _matched(self, items: Sequence[Item], wanted: Asked) -> dict[str, bool]:
        pairs = list(zip(items, wanted.items, strict=True))
        right = {
            "color": all(item.colour == want.colour for item, want in pairs),
            "shape": all(item.shape == want.shape for item, want in pairs),
            "size": all(want.size in (None, item.size) for item, want in pairs),
            "position": all(want.place is None or self._is_at(item, want.place) for item, want in pairs),
            "relation": all(self._lies(items[a], words, items[b]) for a, words, b in wanted.relations),
        }
        return {name: right[name] for name in _said(wanted)}

    def _is_at(self, item: Item, name: str) -> bool:
        return any(place(moved) == name for moved in self._around(item))

    def _lies(self, item: Item, words: str, other: Item) -> bool:
        return any(relation(moved, other) == words for moved in self._around(item))

    def _around(self, item: Item) -> Iterator[Item]:
        for x, y in product((-self.border, self.border), repeat=2):
            yield Item(item.colour, item.shape, item.size, item.x + x, item.y + y)


def _said(wanted: Asked) -> list[str]:
    """Attributes that a prompt gives for some object."""
    given = {
        "size": any(item.size for item in wanted.items),
        "position": any(item.place for item in wanted.items),
        "relation": bool(wanted.relations),
    }
    return [name for name in ATTRIBUTES if given.get(name, True)]


def look(item: AskedItem | Item) -> str:
    """Colour and shape, a class name of `Shapes`."""
    return f"{item.colour} {item.shape}"


def tally(verdicts: Iterable[Verdict]) -> dict[str, tuple[int, int]]:
    """How many are right, of how many that were asked for it, by the names of SCORES that occur."""
    counts: dict[str, tuple[int, int]] = {}
    for verdict in verdicts:
        for name, right in verdict.items():
            hits, total = counts.get(name, (0, 0))
            counts[name] = (hits + right, total + 1)
    return {name: counts[name] for name in SCORES if name in counts}
