"""Drawn pictures over their prompts."""

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_LINE, _PAD = 15, 8


def sample_grid(pictures: np.ndarray, texts: Sequence[str], columns: int = 4, side: int = 128) -> Image.Image:
    """Pictures in rows, each over its text.

    Args:
        pictures: [N, H, W, 3] uint8 RGB, at least one.
        texts: N of them; empty ones take no room where all are.
        columns: at most so many side by side.
        side: of a picture, in pixels; smaller ones are magnified pixel by pixel.
    """
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    below = 3 * _LINE if any(texts) else 0
    width, height = side + _PAD, side + below + _PAD
    grid = Image.new("RGB", (columns * width + _PAD, rows * height + _PAD), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(12)
    for number, (pixels, text) in enumerate(zip(pictures, texts, strict=True)):
        x, y = _PAD + number % columns * width, _PAD + number // columns * height
        small = max(pixels.shape[:2]) < side
        how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
        grid.paste(Image.fromarray(pixels).resize((side, side), how), (x, y))
        lines = textwrap.wrap(text, side // 6, max_lines=3, placeholder=" ...")
        for row, line in enumerate(lines):
            draw.text((x, y + side + 2 + row * _LINE), line, fill=(60, 60, 60), font=font)
    return grid
