"""A picture of pictures with their captions."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_INK = {True: (20, 110, 50), False: (175, 35, 35), None: (110, 110, 110)}
_LINE = 15


@dataclass(frozen=True)
class Cell:
    """One picture: uint8 [H, W, 3] RGB, the caption found for it, whether that is right, and its own."""

    image: np.ndarray
    best: str
    right: bool
    own: str


def caption_grid(cells: Sequence[Cell], columns: int = 4, side: int = 180) -> Image.Image:
    """Draw pictures in rows, each over its best caption in green, or in red and over its own in grey.

    Args:
        cells: in reading order, at least one.
        columns: at most so many side by side.
        side: of a picture, in pixels.
    """
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    pad, text = 8, 5 * _LINE
    grid = Image.new("RGB", (columns * (side + pad) + pad, rows * (side + text + pad) + pad), "white")
    draw = ImageDraw.Draw(grid)
    font = ImageFont.load_default(12)
    for number, cell in enumerate(cells):
        x, y = pad + number % columns * (side + pad), pad + number // columns * (side + text + pad)
        small = max(cell.image.shape[:2]) < side
        picture = Image.fromarray(cell.image)
        grid.paste(
            picture.resize((side, side), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS), (x, y)
        )
        lines = [(line, cell.right) for line in _wrapped(cell.best, side)]
        lines += [] if cell.right else [(line, None) for line in _wrapped(cell.own, side)]
        for row, (line, kind) in enumerate(lines):
            draw.text((x, y + side + 3 + row * _LINE), line, fill=_INK[kind], font=font)
    return grid


def _wrapped(text: str, side: int) -> list[str]:
    return textwrap.wrap(text, side // 6, max_lines=2, placeholder=" ...") or [""]
