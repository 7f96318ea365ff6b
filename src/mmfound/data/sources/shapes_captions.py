"""What can be said about a scene, all of it true."""

from typing import Literal, get_args

from mmfound.data.sources.shapes_scene import Item, Scene

Style = Literal["plain", "terse", "sized", "relation", "descriptive"]
STYLES: tuple[Style, ...] = get_args(Style)


def caption(scene: Scene, style: Style) -> str:
    """One sentence about a scene; the objects come from left to right.

    Args:
        scene: what is in the picture.
        style:
            plain: `a red circle and a blue star`;
            terse: `red circle, blue star`;
            sized: `a small red circle and a large blue star`;
            relation: `a red circle above a blue star`, of a single object its place;
            descriptive: `a small red circle in the top left above a blue star in the centre on a black background`.
    """
    if style == "plain":
        return _listing([f"a {item.name}" for item in scene.items])
    if style == "terse":
        return ", ".join(item.name for item in scene.items)
    if style == "sized":
        return _listing([f"a {item.size} {item.name}" for item in scene.items])
    if style == "relation":
        return _related(scene)
    return _described(scene)


def captions(scene: Scene, styles: tuple[Style, ...] = STYLES) -> list[str]:
    """One caption per style, in their order."""
    return [caption(scene, style) for style in styles]


def relation(item: Item, other: Item) -> str:
    """How `item` lies to `other`: left of, right of, above or below, whichever holds by the larger distance."""
    right, down = item.x - other.x, item.y - other.y
    if abs(right) >= abs(down):
        return "right of" if right > 0 else "left of"
    return "below" if down > 0 else "above"


def place(item: Item) -> str:
    """Which ninth of the picture holds the item's centre."""
    row = ("top", "middle", "bottom")[int(item.y * 3)]
    column = ("left", "middle", "right")[int(item.x * 3)]
    return "centre" if row == column == "middle" else f"{row} {column}"


def _listing(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def _related(scene: Scene) -> str:
    first, *others = scene.items
    if not others:
        return f"a {first.name} in the {place(first)}"
    text = f"a {first.name} {relation(first, others[0])} a {others[0].name}"
    for item, before in zip(others[1:], others, strict=False):
        text += f" and a {item.name} {relation(item, before)} the {before.name}"
    return text


def _described(scene: Scene) -> str:
    full = [f"a {item.size} {item.name} in the {place(item)}" for item in scene.items]
    text = full[0]
    if scene.items[1:]:
        text += f" {_to_the(relation(scene.items[0], scene.items[1]))} {full[1]}"
    for number in range(2, len(full)):
        before = scene.items[number - 1]
        text += f", and {full[number]} {_to_the(relation(scene.items[number], before))} the {before.name}"
    return f"{text} on a {scene.background} background"


def _to_the(words: str) -> str:
    return f"to the {words}" if words.endswith(" of") else words
