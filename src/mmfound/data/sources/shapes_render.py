"""Scenes to pictures, antialiased at any resolution.

Each shape is a function that is negative inside, positive outside and grows with the distance to the nearest edge; a
pixel is covered by 0.5 minus that distance in pixels. Only arithmetic and square roots, so the bytes are the same
everywhere. `u`, `v` are coordinates from the centre to the right and upwards, in units of the radius; every shape lies
in the unit circle.
"""

from collections.abc import Callable

import numpy as np

from mmfound.data.sources.shapes_scene import COLOURS, Item, Scene

Plane = np.ndarray  # [h, w] float32


def render(scene: Scene, size: int) -> np.ndarray:
    """The picture, [size, size, 3] uint8 RGB."""
    canvas = np.full((size, size, 3), scene.tone, dtype=np.float32)
    for item in scene.items:
        _paint(canvas, item)
    return (canvas + 0.5).astype(np.uint8)


def coverage(item: Item, size: int) -> np.ndarray:
    """Share of each pixel that an item covers, [size, size] float32 in [0, 1]: its segmentation mask."""
    mask = np.zeros((size, size), dtype=np.float32)
    rows, columns, covered = _covered(item, size)
    mask[rows, columns] = covered
    return mask


def _paint(canvas: np.ndarray, item: Item) -> None:
    rows, columns, covered = _covered(item, len(canvas))
    patch = canvas[rows, columns]
    patch += covered[..., None] * (np.array(COLOURS[item.colour], dtype=np.float32) - patch)


def _covered(item: Item, size: int) -> tuple[slice, slice, Plane]:
    """The pixels around an item and the share of each that it covers."""
    pixels = item.radius * size
    columns, u = _axis(item.x * size, pixels, size)
    rows, v = _axis(item.y * size, pixels, size)
    distance = DISTANCES[item.shape](u[None, :], -v[:, None])
    return rows, columns, np.clip(np.float32(0.5) - distance * np.float32(pixels), 0, 1)


def _axis(centre: float, radius: float, size: int) -> tuple[slice, np.ndarray]:
    """Pixels within reach along an axis, and their centres in units of the radius."""
    first, last = max(0, int(centre - radius - 1)), min(size, int(centre + radius + 2))
    return slice(first, last), ((np.arange(first, last) + (0.5 - centre)) / radius).astype(np.float32)


def _circle(u: Plane, v: Plane) -> Plane:
    return np.sqrt(u * u + v * v) - np.float32(0.95)


def _ring(u: Plane, v: Plane) -> Plane:
    return np.abs(np.sqrt(u * u + v * v) - np.float32(0.76)) - np.float32(0.22)


def _square(u: Plane, v: Plane) -> Plane:
    return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.7)


def _diamond(u: Plane, v: Plane) -> Plane:
    return np.abs(u) * np.float32(0.84) + (np.abs(v) - 1) * np.float32(0.5426)  # 0.646 wide, 1 high


def _triangle(u: Plane, v: Plane) -> Plane:
    return np.maximum(-v, np.abs(u) * np.float32(0.8660254) + v * np.float32(0.5)) - np.float32(0.5)


def _cross(u: Plane, v: Plane) -> Plane:
    along, across = np.abs(u), np.abs(v)
    arms = np.maximum(along - np.float32(0.93), across - np.float32(0.3))
    return np.minimum(arms, np.maximum(along - np.float32(0.3), across - np.float32(0.93)))


def _heart(u: Plane, v: Plane) -> Plane:
    """A square on its corner with a half circle on each upper side."""
    half, side, height = np.float32(0.37), np.abs(u), v + np.float32(0.08)
    square = (side + np.abs(height) - 2 * half) * np.float32(0.70710678)
    lobe = np.sqrt((side - half) ** 2 + (height - half) ** 2) - half * np.float32(1.4142136)
    return np.minimum(square, lobe)


def _star(u: Plane, v: Plane) -> Plane:
    """Folded into the tenth of the plane between a tip and a notch, where it is one straight edge."""
    side, up = np.abs(u), v
    for cosine, sine in ((0.80901699, 0.58778525), (-0.80901699, 0.58778525)):  # mirrors at 36 and -36 degrees
        beyond = 2 * np.maximum(side * np.float32(cosine) - up * np.float32(sine), 0)
        side, up = side - beyond * np.float32(cosine), up + beyond * np.float32(sine)
    return np.abs(side) * _EDGE_U + (up - 1) * _EDGE_V


# The edge of the star runs from its tip (0, 1) to the notch at radius 0.42 and 36 degrees.
_NOTCH = (0.42 * 0.58778525, 0.42 * 0.80901699)
_LENGTH = (_NOTCH[0] ** 2 + (1 - _NOTCH[1]) ** 2) ** 0.5
_EDGE_U, _EDGE_V = np.float32((1 - _NOTCH[1]) / _LENGTH), np.float32(_NOTCH[0] / _LENGTH)

DISTANCES: dict[str, Callable[[Plane, Plane], Plane]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "heart": _heart,
    "diamond": _diamond,
}
