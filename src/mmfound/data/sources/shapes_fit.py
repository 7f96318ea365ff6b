"""From a picture back to the scene: the renderer of `Shapes` fitted to it by least squares.

A picture is tone (1 - c) + colour c, where c is the coverage of one object; objects do not overlap, so that each can be
fitted to what the others leave. Every (shape, size) is tried at every pixel at once by correlation, on a picture of at
most 32 pixels; the most promising are then moved to a fraction of a pixel at full size (Gauss-Newton), with every
colour.

Shape letters: B pictures, M candidates a picture, N candidates of all pictures, S side, n objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import hypot, inf

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmfound.data.sources.shapes_matching import LOOKS, PALETTE, Bank, cover, refine
from mmfound.data.sources.shapes_scene import COLOURS, SIZES, Item, Scene
from mmfound.errors import ConfigError

# Why these: docs/samples.md.
RESIDUAL_BOUND = 0.12
EXPLAINED_BOUND = 0.5
APART_BOUND = 0.8

_COARSE = 32
_STEPS, _POLISH = 3, 6  # of Gauss-Newton, with every candidate and with the best


@dataclass(frozen=True)
class Fit:
    """The scene whose picture is nearest to a given one.

    Attributes:
        scene: items from left to right, and the tone.
        residual: root mean square of the error, RGB in [0, 1], over the worst square as wide as the smallest object.
        explained: 1 less the squared error that the worst object leaves, as a share of its own contrast: 1 of a true
            picture, -1 where there is nothing.
    """

    scene: Scene
    residual: float
    explained: float

    def found(self, residual: float = RESIDUAL_BOUND, explained: float = EXPLAINED_BOUND) -> bool:
        """Whether the picture shows that scene, all of it and nothing else."""
        return self.residual <= residual and self.explained >= explained and self.apart >= APART_BOUND

    @property
    def apart(self) -> float:
        """Smallest distance between two objects as a share of their radii's sum; at least 1 of a true picture.

        Below, two objects may have been fitted to the parts of one.
        """
        pairs = combinations(self.scene.items, 2)
        return min((hypot(a.x - b.x, a.y - b.y) / (a.radius + b.radius) for a, b in pairs), default=inf)


@dataclass
class _Found:
    """One object for each of B pictures: rows of `LOOKS` and of the palette, its centre, the share explained."""

    look: np.ndarray
    colour: np.ndarray
    x: np.ndarray
    y: np.ndarray
    explained: np.ndarray


class ShapesFit:
    """Fits scenes of a known number of objects.

    Args:
        candidates: shapes and sizes of each object that are looked at closely, of 24.
        batch_size: pictures at a time.
    """

    def __init__(self, *, candidates: int = 8, batch_size: int = 32) -> None:
        self.candidates, self.batch_size = candidates, batch_size

    def __call__(self, image: Tensor, objects: int) -> list[Fit]:
        """The best scene of so many objects for every picture.

        Args:
            image: [B, 3, S, S] RGB in [0, 1], S at least 16; what is no number is taken for black.
            objects: in every picture, 1 to 3.

        Returns:
            B fits; one of a large residual shows no such scene.

        Raises:
            ConfigError: when pictures are no squares of at least 16 pixels.
        """
        if image.dim() != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3] or image.shape[3] < 16:
            raise ConfigError(
                f"ShapesFit takes pictures [B, 3, S, S] of at least 16 pixels, not {list(image.shape)}; give such."
            )
        fits: list[Fit] = []
        for part in image.detach().float().nan_to_num(0.0).cpu().split(self.batch_size):
            fits += self._fit(part.numpy(), objects)
        return fits

    def _fit(self, image: np.ndarray, objects: int) -> list[Fit]:
        bank = Bank(min(_COARSE, image.shape[-1]))
        tone_B = np.median(image.reshape(len(image), 3, -1), axis=2).mean(axis=1)
        best = self._scene(bank, image, tone_B, objects, 0)
        for start in range(1, 4 if objects > 1 else 1):  # where the strongest object misled, begin with another
            bad = (best.residual > RESIDUAL_BOUND) | (best.explained < EXPLAINED_BOUND)
            if bad.any():
                best.take(bad, self._scene(bank, image[bad], tone_B[bad], objects, start))
        return best.fits()

    def _scene(self, bank: "Bank", image: np.ndarray, tone_B: np.ndarray, objects: int, start: int) -> "_Scenes":
        found: list[_Found] = []
        size = image.shape[-1]
        for number in range(objects):
            rest = image - _picture(tone_B, found, size)
            found.append(self._object(bank, rest, tone_B, start if number == 0 else 0))
        for _ in range(2 if objects > 1 else 0):
            for number in range(objects):
                others = found[:number] + found[number + 1 :]
                found[number] = self._object(bank, image - _picture(tone_B, others, size), tone_B, 0)
        return _Scenes.of(image, found)

    def _object(self, bank: "Bank", rest: np.ndarray, tone_B: np.ndarray, start: int) -> _Found:
        """The object that explains most of a picture less its background; `start` skips the best shapes."""
        look_BM, place_BM = bank.candidates(rest, tone_B, self.candidates + start)
        look_BM, place_BM = look_BM[:, start:], place_BM[:, start:]
        row_N = np.repeat(np.arange(len(rest)), look_BM.shape[1])
        _, x_N, y_N, gain_N, _ = refine(rest, tone_B, row_N, look_BM.ravel(), place_BM.reshape(-1, 2), _STEPS)
        gain_BM = gain_N.reshape(look_BM.shape)
        pick = gain_BM.argmax(axis=1) + np.arange(len(rest)) * look_BM.shape[1]
        centre_B2 = np.stack([x_N[pick], y_N[pick]], axis=1)
        look_B = look_BM.ravel()[pick]
        colour, x, y, gain, energy = refine(rest, tone_B, np.arange(len(rest)), look_B, centre_B2, _POLISH)
        return _Found(look_B, colour, x, y, gain / energy)


def _picture(tone_B: np.ndarray, found: Sequence[_Found], size: int) -> np.ndarray:
    """[B, 3, S, S] of a background and objects."""
    picture = np.broadcast_to(tone_B[:, None, None, None], (len(tone_B), 3, size, size)).astype(np.float32)
    for item in found:
        covered = cover(item.look, item.x, item.y, size)[:, None]
        picture += covered * (PALETTE[item.colour][:, :, None, None] - picture)
    return picture


@dataclass
class _Scenes:
    """Fitted scenes of B pictures: arrays [B, n] of objects, [B] of the whole."""

    look: np.ndarray
    colour: np.ndarray
    x: np.ndarray
    y: np.ndarray
    tone: np.ndarray
    residual: np.ndarray
    explained: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, found: Sequence[_Found]) -> "_Scenes":
        """With the tone by least squares, and the worst error."""
        size = image.shape[-1]
        black = _picture(np.zeros(len(image), np.float32), found, size)
        bare = _picture(np.ones(len(image), np.float32), found, size) - black  # [B, 3, S, S], 1 - coverage
        tone_B = (bare * (image - black)).sum(axis=(1, 2, 3)) / np.square(bare).sum(axis=(1, 2, 3))
        tone_B = tone_B.clip(0, 1)
        error = np.square(image - black - bare * tone_B[:, None, None, None]).mean(axis=1)
        side = max(1, round(2 * min(SIZES.values()) * size))
        worst = F.avg_pool2d(torch.from_numpy(error)[:, None], side, stride=1).flatten(1).amax(dim=1)
        look, colour, x, y = (
            np.stack([getattr(item, name) for item in found], axis=1) for name in ("look", "colour", "x", "y")
        )
        explained = np.min([item.explained for item in found], axis=0)
        return cls(look, colour, x, y, tone_B, worst.sqrt().numpy(), explained)

    def take(self, rows: np.ndarray, other: "_Scenes") -> None:
        """Replace those of the rows (bool) that are better in `other`: all objects there, or a smaller residual."""
        there, was_there = other.explained >= EXPLAINED_BOUND, self.explained[rows] >= EXPLAINED_BOUND
        kept = np.where(there == was_there, other.residual < self.residual[rows], there)
        better = np.flatnonzero(rows)[kept]
        for name, value in vars(self).items():
            value[better] = getattr(other, name)[kept]

    def fits(self) -> list[Fit]:
        """One for each picture."""
        rows = range(len(self.tone))
        return [Fit(self._scene(row), float(self.residual[row]), float(self.explained[row])) for row in rows]

    def _scene(self, row: int) -> Scene:
        names = list(COLOURS)
        items = [
            Item(names[colour], shape=LOOKS[look][0], size=LOOKS[look][1], x=float(x), y=float(y))
            for look, colour, x, y in zip(self.look[row], self.colour[row], self.x[row], self.y[row], strict=True)
        ]
        return Scene(tuple(sorted(items, key=lambda item: (item.x, item.y))), round(255 * float(self.tone[row])))
