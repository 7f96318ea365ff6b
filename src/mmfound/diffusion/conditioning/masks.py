"""Which pixels an inpainting model is trained to fill in. Masks are 1 on what is KNOWN, 0 on what is to be made."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

from mmfound.errors import ConfigError


class Masks(ABC):
    """Draws masks. Named in recipes."""

    @abstractmethod
    def __call__(self, size: int, generator: Generator) -> Tensor:
        """One mask, [1, size, size] float32 of 0 and 1; all draws are from the generator."""


class Rectangles(Masks):
    """Rectangles are unknown; their centres are uniform over the picture, so that its edges are unknown as often.

    Args:
        count: fewest and most of them.
        side: shortest and longest side, as shares of the picture's.
        nothing_known: share of the masks that leave nothing known, so that the model still makes whole pictures.

    Raises:
        ConfigError: when a number is out of range.
    """

    def __init__(
        self, count: tuple[int, int] = (1, 3), side: tuple[float, float] = (0.2, 0.8), nothing_known: float = 0.1
    ) -> None:
        if not 1 <= count[0] <= count[1] or not 0 < side[0] <= side[1] <= 1 or not 0 <= nothing_known <= 1:
            raise ConfigError(
                f"Rectangles: count {count} must be at least 1, side {side} in (0, 1], both in order, and "
                f"nothing_known {nothing_known} in [0, 1]."
            )
        self.count = count
        self.side = side
        self.nothing_known = nothing_known

    def __call__(self, size: int, generator: Generator) -> Tensor:
        known = torch.ones(1, size, size, dtype=torch.float32)
        if _uniform(generator) < self.nothing_known:
            return known.zero_()
        for _ in range(_between(*self.count, generator)):
            height, width = (self._side(size, generator) for _ in range(2))
            top, left = (_between(0, size - 1, generator) - side // 2 for side in (height, width))
            known[:, max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)] = 0
        return known

    def _side(self, size: int, generator: Generator) -> int:
        share = self.side[0] + (self.side[1] - self.side[0]) * _uniform(generator)
        return min(size, max(1, round(share * size)))


class FreeForm(Masks):
    """Brush strokes are unknown: broken lines of round-ended pieces.

    Args:
        strokes: fewest and most of them.
        pieces: most pieces of a stroke.
        radius: smallest and largest, of the brush, as shares of the picture's side.
        length: longest piece, as a share of the side.
        nothing_known: share of the masks that leave nothing known.

    Raises:
        ConfigError: when a number is out of range.
    """

    def __init__(
        self,
        strokes: tuple[int, int] = (1, 4),
        pieces: int = 4,
        radius: tuple[float, float] = (0.03, 0.12),
        length: float = 0.4,
        nothing_known: float = 0.1,
    ) -> None:
        if not 1 <= strokes[0] <= strokes[1] or pieces < 1 or not 0 < radius[0] <= radius[1] or length <= 0:
            raise ConfigError(
                f"FreeForm: strokes {strokes} and pieces {pieces} must be at least 1, radius {radius} and length "
                f"{length} above 0, all in order."
            )
        self.strokes, self.pieces, self.radius = strokes, pieces, radius
        self.length, self.nothing_known = length, nothing_known

    def __call__(self, size: int, generator: Generator) -> Tensor:
        if _uniform(generator) < self.nothing_known:
            return torch.zeros(1, size, size, dtype=torch.float32)
        known = torch.ones(1, size, size, dtype=torch.float32)
        for _ in range(_between(*self.strokes, generator)):
            radius = self.radius[0] + (self.radius[1] - self.radius[0]) * _uniform(generator)
            x, y = _uniform(generator), _uniform(generator)
            for _ in range(_between(1, self.pieces, generator)):
                angle, length = 2 * math.pi * _uniform(generator), self.length * _uniform(generator)
                to_x, to_y = x + length * math.cos(angle), y + length * math.sin(angle)
                known[0][_distance(size, x, y, to_x, to_y) <= radius] = 0
                x, y = to_x, to_y
        return known


def _distance(size: int, x: float, y: float, to_x: float, to_y: float) -> Tensor:
    """[size, size] of each pixel's centre to a piece of a line, in shares of the side."""
    at = (torch.arange(size, dtype=torch.float32) + 0.5) / size
    dx, dy = to_x - x, to_y - y
    along = ((at[None] - x) * dx + (at[:, None] - y) * dy) / max(dx * dx + dy * dy, 1e-12)
    along = along.clamp(0, 1)
    return ((at[None] - x - along * dx) ** 2 + (at[:, None] - y - along * dy) ** 2).sqrt()


def _uniform(generator: Generator) -> float:
    return float(torch.rand((), generator=generator, dtype=torch.float32))


def _between(lowest: int, highest: int, generator: Generator) -> int:
    return int(torch.randint(lowest, highest + 1, (), generator=generator))
