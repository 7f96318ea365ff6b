"""Pictures beside one another."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

_PAD = 4


def sheet(rows: Sequence[Sequence[np.ndarray]], *, across: int = 4, side: int = 64) -> Image.Image:
    """Groups of pictures, each group in a row of its own within a column of groups.

    Args:
        rows: groups of equally many pictures, uint8 [H, W, 3] RGB, at least one.
        across: groups side by side.
        side: of a picture in the sheet, in pixels; smaller ones are enlarged without smoothing.
    """
    across = min(across, len(rows))
    wide, high = len(rows[0]) * (side + 1) + 2 * _PAD, side + _PAD
    whole = Image.new("RGB", (across * wide, -(-len(rows) // across) * high + _PAD), "white")
    for number, group in enumerate(rows):
        x, y = number % across * wide + _PAD, number // across * high + _PAD
        for place, picture in enumerate(group):
            how = Image.Resampling.NEAREST if max(picture.shape[:2]) < side else Image.Resampling.LANCZOS
            whole.paste(Image.fromarray(picture).resize((side, side), how), (x + place * (side + 1), y))
    return whole
