"""A picture of any size with a hole: the square around the hole is drawn anew, all other pixels stay as they are.

Shape letters: H W of the picture, S side of the square.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmfound.diffusion.given import Given


@dataclass(frozen=True)
class Box:
    """A square; it may reach beyond the picture.

    Args:
        top: first row.
        left: first column.
        side: in pixels.
    """

    top: int
    left: int
    side: int


class Canvas:
    """What an inpainting is pasted into.

    Args:
        picture: [3, H, W] uint8 RGB.
        hole: [H, W] bool, True on what is to be drawn, somewhere.
        side: of the pictures that are drawn; a smaller square than this is not cut out where the picture has room.
    """

    def __init__(self, picture: Tensor, hole: Tensor, side: int) -> None:
        self.picture = picture.permute(1, 2, 0).numpy()
        self.hole = hole.numpy()
        self.box = box_around(self.hole, side)

    def given(self, strength: float | None = None) -> Given:
        """The square; beyond the picture's edge it repeats the edge's pixels and belongs to the hole."""
        rows, columns, margins = self._cut()
        square = np.pad(self.picture[rows, columns], (*margins, (0, 0)), mode="edge")
        hole = np.pad(self.hole[rows, columns], margins, constant_values=True)
        image = torch.from_numpy(square).permute(2, 0, 1).float() / 255
        return Given(image, torch.from_numpy(hole)[None], strength)

    def paste(self, drawn: np.ndarray) -> np.ndarray:
        """[S, S, 3] uint8 of the square, S any -> [H, W, 3] uint8: in the hole what was drawn, else the picture."""
        box = self.box
        fitting = Image.fromarray(drawn)
        if drawn.shape[0] != box.side:
            fitting = fitting.resize((box.side, box.side), Image.Resampling.BICUBIC)
        rows, columns, (above, beside) = self._cut()
        height, width = rows.stop - rows.start, columns.stop - columns.start
        inside = np.asarray(fitting)[above[0] : above[0] + height, beside[0] : beside[0] + width]
        whole = self.picture.copy()
        hole = self.hole[rows, columns]
        whole[rows, columns][hole] = inside[hole]
        return whole

    def _cut(self) -> tuple[slice, slice, tuple[tuple[int, int], tuple[int, int]]]:
        """Rows and columns of the picture within the square, and how far it reaches beyond at each edge."""
        box = self.box
        cuts, margins = [], []
        for start, length in ((box.top, self.hole.shape[0]), (box.left, self.hole.shape[1])):
            low, high = max(start, 0), min(start + box.side, length)
            cuts.append(slice(low, high))
            margins.append((low - start, start + box.side - high))
        return cuts[0], cuts[1], (margins[0], margins[1])


def box_around(hole: np.ndarray, side: int) -> Box:
    """The square that is drawn anew: twice as wide as the hole, so that half of it shows what is around.

    Args:
        hole: [H, W] bool, True somewhere.
        side: the least, where the picture has room.

    Returns:
        A square around the whole hole, within the picture where that is possible.
    """
    at_rows, at_columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    spans = [(int(at[0]), int(at[-1]) + 1) for at in (at_rows, at_columns)]
    longest = max(stop - start for start, stop in spans)
    wanted = max(longest, min(max(2 * longest, side), *hole.shape))
    top, left = (_placed(start, stop, wanted, length) for (start, stop), length in zip(spans, hole.shape, strict=True))
    return Box(top, left, wanted)


def _placed(start: int, stop: int, side: int, length: int) -> int:
    """Where a side begins whose middle is that of a span, moved into the picture."""
    if side >= length:
        return (length - side) // 2
    return min(max((start + stop - side) // 2, 0), length - side)


def central_square(picture: Tensor) -> Tensor:
    """[3, H, W] uint8 -> [3, S, S] float32 in [0, 1], the middle of the longer edge."""
    _, height, width = picture.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[:, top : top + side, left : left + side].float() / 255
