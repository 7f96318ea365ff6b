"""Pictures of pictures."""

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_LINE, _PAD, _LINES = 15, 8, 3
_INK = (60, 60, 60)
_BETWEEN = 4  # groups


def contact_sheet(
    pictures: Iterable[np.ndarray], texts: Sequence[str], columns: int, heads: Sequence[str] = (), side: int = 160
) -> Image.Image:
    """Pictures in rows, over their prompts.

    Args:
        pictures: uint8 [H, W, 3] RGB of any sizes, at least one; in reading order.
        texts: one below each; where all are empty they take no room.
        columns: side by side.
        heads: one above each column, or none.
        side: of the square that a picture is fitted into; smaller ones are magnified pixel by pixel.
    """
    rows = -(-len(texts) // columns)
    above, below = (_LINE if heads else 0), (_LINES * _LINE if any(texts) else 0)
    width, height = side + _PAD, side + below + _PAD
    sheet = Image.new("RGB", (columns * width + _PAD, rows * height + above + _PAD), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for column, head in enumerate(heads):
        draw.text((_PAD + column * width, _PAD // 2), head, fill=_INK, font=font)
    for number, (pixels, text) in enumerate(zip(pictures, texts, strict=True)):
        x, y = _PAD + number % columns * width, above + _PAD + number // columns * height
        fitted = _fitted(Image.fromarray(pixels), side)
        sheet.paste(fitted, (x + (side - fitted.width) // 2, y + (side - fitted.height) // 2))
        for row, line in enumerate(textwrap.wrap(text, side // 6, max_lines=_LINES, placeholder=" ...")):
            draw.text((x, y + side + 2 + row * _LINE), line, fill=_INK, font=font)
    return sheet


def grouped_sheet(groups: Sequence[Sequence[np.ndarray]], *, across: int = 4, side: int = 64) -> Image.Image:
    """Groups of pictures, each group in a row of its own within a column of groups.

    Args:
        groups: of equally many pictures, uint8 [H, W, 3] RGB, at least one.
        across: groups side by side.
        side: of the square that a picture is fitted into; smaller ones are magnified pixel by pixel.
    """
    across = min(across, len(groups))
    wide, high = len(groups[0]) * (side + 1) + 2 * _BETWEEN, side + _BETWEEN
    sheet = Image.new("RGB", (across * wide, -(-len(groups) // across) * high + _BETWEEN), "white")
    for number, group in enumerate(groups):
        x, y = number % across * wide + _BETWEEN, number // across * high + _BETWEEN
        for place, pixels in enumerate(group):
            sheet.paste(_fitted(Image.fromarray(pixels), side), (x + place * (side + 1), y))
    return sheet


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
