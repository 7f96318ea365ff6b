"""From a picture back to the scene: the renderer of `Shapes` fitted to it by least squares.

A picture is tone (1 - c) + colour c, where c is the coverage of one object; objects do not overlap, so that each can be
fitted to what the others leave. Every (shape, size) is tried at every pixel at once by correlation, on a picture of at
most 32 pixels; the most promising are then moved to a fraction of a pixel at full size (Gauss-Newton), with every
colour.

Shape letters: B pictures, K looks (shape and size), M candidates a picture, N candidates of all pictures, S side, C
side of the coarse picture, P places (C * C), Q colours, n objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import hypot, inf

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmfound.data.sources.shapes_render import DISTANCES
from mmfound.data.sources.shapes_scene import COLOURS, SHAPES, SIZES, Item, Scene
from mmfound.errors import ConfigError

# Why these: docs/samples.md.
RESIDUAL_BOUND = 0.12
EXPLAINED_BOUND = 0.5
APART_BOUND = 0.8

LOOKS = tuple(product(SHAPES, SIZES))
_RADII = np.array([SIZES[size] for _, size in LOOKS], dtype=np.float32)
_PALETTE = np.array(list(COLOURS.values()), dtype=np.float32) / 255
_COARSE = 32
_STEPS, _POLISH = 3, 6  # of Gauss-Newton, with every candidate and with the best
_SLACK = 0.02  # of the side: how far out of its place in the picture an object may be found


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
            image: [B, 3, S, S] RGB in [0, 1], S at least 16.
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
        for part in image.detach().float().cpu().split(self.batch_size):
            fits += self._fit(part.numpy(), objects)
        return fits

    def _fit(self, image: np.ndarray, objects: int) -> list[Fit]:
        bank = _Bank(min(_COARSE, image.shape[-1]))
        tone_B = np.median(image.reshape(len(image), 3, -1), axis=2).mean(axis=1)
        best = self._scene(bank, image, tone_B, objects, 0)
        for start in range(1, 4 if objects > 1 else 1):  # where the strongest object misled, begin with another
            bad = (best.residual > RESIDUAL_BOUND) | (best.explained < EXPLAINED_BOUND)
            if bad.any():
                best.take(bad, self._scene(bank, image[bad], tone_B[bad], objects, start))
        return best.fits()

    def _scene(self, bank: "_Bank", image: np.ndarray, tone_B: np.ndarray, objects: int, start: int) -> "_Scenes":
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

    def _object(self, bank: "_Bank", rest: np.ndarray, tone_B: np.ndarray, start: int) -> _Found:
        """The object that explains most of a picture less its background; `start` skips the best shapes."""
        look_BM, place_BM = bank.candidates(rest, tone_B, self.candidates + start)
        look_BM, place_BM = look_BM[:, start:], place_BM[:, start:]
        row_N = np.repeat(np.arange(len(rest)), look_BM.shape[1])
        _, x_N, y_N, gain_N, _ = _refine(rest, tone_B, row_N, look_BM.ravel(), place_BM.reshape(-1, 2), _STEPS)
        gain_BM = gain_N.reshape(look_BM.shape)
        pick = gain_BM.argmax(axis=1) + np.arange(len(rest)) * look_BM.shape[1]
        centre_B2 = np.stack([x_N[pick], y_N[pick]], axis=1)
        look_B = look_BM.ravel()[pick]
        colour, x, y, gain, energy = _refine(rest, tone_B, np.arange(len(rest)), look_B, centre_B2, _POLISH)
        return _Found(look_B, colour, x, y, gain / energy)


class _Bank:
    """All looks in the middle of a coarse picture, as spectra.

    Args:
        side: C.
    """

    def __init__(self, side: int) -> None:
        middle = np.full(len(LOOKS), 0.5, dtype=np.float32)
        cover_KCC = torch.from_numpy(cover(np.arange(len(LOOKS)), middle, middle, side))
        self.side = side
        self.spectrum = torch.fft.rfft2(cover_KCC).conj()
        self.energy_K = cover_KCC.square().sum(dim=(1, 2))
        self.centre_C = (np.arange(side) + side // 2) % side / side  # of an object, by how far its cover is moved
        inside_KC = np.abs(self.centre_C[None] - 0.5) <= 0.5 - _RADII[:, None] + 0.5 / side
        self.outside = torch.from_numpy(~(inside_KC[:, :, None] & inside_KC[:, None, :]))

    def candidates(self, rest: np.ndarray, tone_B: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """[B, M] looks of the largest gains, best first, and [B, M, 2] their centres (x, y)."""
        coarse = F.interpolate(torch.from_numpy(rest), size=(self.side, self.side), mode="area")
        spectrum = torch.fft.rfft2(coarse)[:, None] * self.spectrum[None, :, None]
        corr_BK3P = torch.fft.irfft2(spectrum, s=(self.side, self.side)).flatten(3)
        step_B3 = torch.from_numpy(_PALETTE)[None] - torch.from_numpy(tone_B)[:, None, None]  # [B, Q, 3]
        gain_BK = torch.full(corr_BK3P.shape[:2], -torch.inf)
        place_BK = torch.zeros_like(gain_BK, dtype=torch.int64)
        for step in step_B3.unbind(dim=1):
            gain_BKP = torch.einsum("bc,bkcp->bkp", 2 * step, corr_BK3P)
            gain_BKP.masked_fill_(self.outside.flatten(1), -torch.inf)
            best, place = gain_BKP.max(dim=2)
            best = best - step.square().sum(dim=1, keepdim=True) * self.energy_K
            place_BK = torch.where(best > gain_BK, place, place_BK)
            gain_BK = torch.maximum(best, gain_BK)
        look_BM = gain_BK.argsort(dim=1, descending=True)[:, :count]
        place_BM = place_BK.gather(1, look_BM).numpy()
        centre = np.stack([self.centre_C[place_BM % self.side], self.centre_C[place_BM // self.side]], axis=-1)
        return look_BM.numpy(), centre.astype(np.float32)


def cover(look_N: np.ndarray, x_N: np.ndarray, y_N: np.ndarray, size: int) -> np.ndarray:
    """Share of each pixel that an object covers, as `shapes_render.coverage`.

    Args:
        look_N: rows of `LOOKS`.
        x_N: float32 centres as fractions of the side, from the left.
        y_N: from the top.
        size: S.

    Returns:
        [N, S, S] float32 in [0, 1].
    """
    radius_N = _RADII[look_N]
    middle = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    u = ((middle[None] - x_N[:, None]) / radius_N[:, None])[:, None, :]
    v = ((y_N[:, None] - middle[None]) / radius_N[:, None])[:, :, None]
    covered = np.empty((len(look_N), size, size), dtype=np.float32)
    for number, shape in enumerate(SHAPES):
        rows = np.flatnonzero(look_N // len(SIZES) == number)
        if len(rows):
            pixels = (radius_N[rows] * size)[:, None, None]
            covered[rows] = np.clip(np.float32(0.5) - DISTANCES[shape](u[rows], v[rows]) * pixels, 0, 1)
    return covered


def _refine(
    rest: np.ndarray, tone_B: np.ndarray, row_N: np.ndarray, look_N: np.ndarray, centre_N2: np.ndarray, steps: int
) -> tuple[np.ndarray, ...]:
    """Candidates moved by Gauss-Newton, the colour chosen before every step.

    Returns:
        [N] each: colour, x, y, the squared error that the object takes away, and its squared contrast.
    """
    size = rest.shape[-1]
    step_NQ3 = (_PALETTE[None] - tone_B[:, None, None])[row_N]
    energy_NQ = np.square(step_NQ3).sum(axis=2)
    seen = rest.reshape(len(rest), 3, -1)[row_N]  # [N, 3, S * S]
    every = np.arange(len(look_N))
    lowest = (_RADII[look_N] - _SLACK)[:, None]

    def covered(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return cover(look_N, x, y, size).reshape(len(look_N), -1)

    def coloured(now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        corr_N3 = np.matmul(seen, now[:, :, None])[:, :, 0]
        gain_NQ = 2 * np.einsum("nqc,nc->nq", step_NQ3, corr_N3) - energy_NQ * np.square(now).sum(axis=1)[:, None]
        colour_N = gain_NQ.argmax(axis=1)
        return colour_N, gain_NQ[every, colour_N]

    move = np.float32(0.2 / size)
    for _ in range(steps):
        x, y = centre_N2.T
        now = covered(x, y)
        colour, _ = coloured(now)
        energy = energy_NQ[every, colour][:, None]
        error = np.matmul(step_NQ3[every, colour][:, None], seen)[:, 0] - energy * now
        across, down = (covered(x + move, y) - now) / move, (covered(x, y + move) - now) / move
        slope = np.stack([(across * error).sum(axis=1), (down * error).sum(axis=1)], axis=1)
        both = (across * down).sum(axis=1)
        curve = np.stack([np.square(across).sum(axis=1), both, both, np.square(down).sum(axis=1)], axis=1)
        curve = (energy * curve).reshape(-1, 2, 2) + 1e-6 * np.eye(2, dtype=np.float32)
        by = np.linalg.solve(curve, slope[:, :, None])[:, :, 0]
        centre_N2 = np.clip(centre_N2 + np.clip(by, -1 / size, 1 / size), lowest, 1 - lowest).astype(np.float32)
    now = covered(*centre_N2.T)
    colour, gain = coloured(now)
    energy = energy_NQ[every, colour] * np.square(now).sum(axis=1)
    return colour, centre_N2[:, 0], centre_N2[:, 1], gain, energy


def _picture(tone_B: np.ndarray, found: Sequence[_Found], size: int) -> np.ndarray:
    """[B, 3, S, S] of a background and objects."""
    picture = np.broadcast_to(tone_B[:, None, None, None], (len(tone_B), 3, size, size)).astype(np.float32)
    for item in found:
        covered = cover(item.look, item.x, item.y, size)[:, None]
        picture += covered * (_PALETTE[item.colour][:, :, None, None] - picture)
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
        arrays = (np.stack([getattr(item, name) for item in found], axis=1) for name in ("look", "colour", "x", "y"))
        return cls(*arrays, tone_B, worst.sqrt().numpy(), np.min([item.explained for item in found], axis=0))

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
            Item(names[colour], *LOOKS[look], float(x), float(y))
            for look, colour, x, y in zip(self.look[row], self.colour[row], self.x[row], self.y[row], strict=True)
        ]
        return Scene(tuple(sorted(items, key=lambda item: (item.x, item.y))), round(255 * float(self.tone[row])))
