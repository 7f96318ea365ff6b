"""Drawn pictures as PNG files that say what they were drawn with."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

import mmfound
from mmfound.errors import ConfigError
from mmfound.files import sync, writing

Facts = Mapping[str, Any]
_KEY = "mmfound"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ALONE = ("prompt", "seed", "index")  # that get a text of their own, for other programs


def write_picture(path: Path, pixels: np.ndarray, facts: Facts) -> None:
    """Write a PNG, whole or not at all.

    Args:
        path: where to; its folder is there.
        pixels: [H, W, 3] uint8 RGB.
        facts: JSON-able; kept as JSON in the text `mmfound`, prompt, seed and index in texts of those names too.

    Raises:
        DiskFullError: when there is no room.
        ConfigError: when it cannot be written there.
    """
    texts = PngImagePlugin.PngInfo()
    for name in _ALONE:
        if name in facts:
            texts.add_itxt(name, str(facts[name]))
    texts.add_itxt(_KEY, json.dumps(facts, ensure_ascii=False))
    texts.add_text("Software", f"mmfound {mmfound.__version__}")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with writing(path):
        try:
            Image.fromarray(pixels).save(partial, "PNG", pnginfo=texts)
            sync(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def facts_of(path: Path) -> dict[str, Any] | None:
    """What a picture says of itself; None when it is missing or not a whole PNG.

    Raises:
        ConfigError: when it is somebody else's.
    """
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            picture.load()
            text = getattr(picture, "text", {}).get(_KEY)
    except (OSError, SyntaxError, ValueError):  # what Pillow makes of damaged files
        if _may_be_ours(path):
            return None
        text = None
    try:
        facts = None if text is None else json.loads(text)
    except ValueError:
        facts = None
    if facts is None:
        raise ConfigError(
            f"{path} is in the way, and `mmfound generate` has not drawn it; move it, or name another --to."
        )
    return facts


def _may_be_ours(path: Path) -> bool:
    """Whether a damaged file is what remains of a PNG: its beginning, or nothing."""
    try:
        start = path.read_bytes()[: len(_SIGNATURE)]
    except OSError:
        return True
    return start == _SIGNATURE[: len(start)]


def is_drawn(path: Path, facts: Facts) -> bool:
    """Whether a picture is there and was drawn with these facts.

    Raises:
        ConfigError: when it was drawn with others, naming the first that differs.
    """
    before = facts_of(path) if path.exists() else None
    if before is None:
        return False
    now = json.loads(json.dumps(facts))
    if before == now:
        return True
    was, is_now = _flat(before), _flat(now)
    name = next(name for name in [*is_now, *was] if was.get(name) != is_now.get(name))
    raise ConfigError(
        f"{path} was drawn with {name}: {was.get(name)!r}, and now it is {is_now.get(name)!r}. Name another --to, or "
        f"remove {path.parent}."
    )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Leaves by dotted name."""
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for part, one in inner:
        found.update(_flat(one, f"{name}.{part}" if name else str(part)))
    return found
