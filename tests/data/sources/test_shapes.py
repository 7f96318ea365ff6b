"""Shapes: pictures are a function of their number, captions are true, splits share nothing."""

import json
import math
import pickle
import re
from hashlib import blake2b
from typing import Any, cast, get_args

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mmfound.data.sources.shapes import Background, Shapes, assert_disjoint
from mmfound.data.sources.shapes_captions import STYLES, caption
from mmfound.data.sources.shapes_render import coverage, render
from mmfound.data.sources.shapes_scene import CLASSES, COLOURS, SHAPES, SIZES, TONES, Item, Scene
from mmfound.errors import ConfigError, DataError

OBJECT = re.compile(rf"(?:(small|medium|large) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})")
RELATION = re.compile(r"(left of|right of|above|below)")


def alone(
    shape: str, size: str = "large", colour: str = "red", tone: int = 255, x: float = 0.5, y: float = 0.5
) -> Scene:
    return Scene((Item(colour, shape, size, x, y),), tone)


def sample_of(source: Shapes, index: int) -> dict[str, Any]:
    return cast(dict[str, Any], source[index])


def digest(source: Shapes) -> str:
    return blake2b(
        b"".join(sample_of(source, i)["image"].tobytes() for i in range(len(source))), digest_size=8
    ).hexdigest()


def test_pictures_and_captions_are_recorded_ones():
    source = Shapes(50)
    assert digest(source) == "02ddca12fbc28af4"
    sized = sample_of(source, 2)["captions"][2]
    assert sized == "a large brown diamond, a medium purple triangle and a medium red star"


def test_a_sample_depends_on_seed_split_and_index_alone():
    assert digest(Shapes(20)) == digest(pickle.loads(pickle.dumps(Shapes(20))))
    longer = Shapes(100)
    assert all(longer.scene(i) == Shapes(20).scene(i) for i in reversed(range(20)))
    others = [Shapes(20, seed=1), Shapes(20, split="val"), Shapes(20, split="test")]
    assert len({digest(source) for source in [Shapes(20), *others]}) == 4


def test_splits_share_no_scene_and_no_picture_whatever_the_seed():
    sources = [
        Shapes(2000, 16, split=split, seed=seed, objects=(1, 1))
        for split in ("train", "val", "test")
        for seed in (0, 1)
    ]
    pictures = [{sample_of(source, i)["image"].tobytes() for i in range(len(source))} for source in sources]
    scenes = [{source.scene(i).digest() for i in range(len(source))} for source in sources]
    assert len(set.union(*scenes)) == 12_000
    assert len(set.union(*pictures)) > 11_990  # two scenes may look alike at 16 pixels
    for source in sources[2:]:
        assert_disjoint(sources[0], source)
    remainders = {
        source.split: {round(o.x * 3072) % 3 for i in range(200) for o in source.scene(i).items} for source in sources
    }
    assert remainders == {"train": {0}, "val": {1}, "test": {2}}


def test_shared_scenes_are_named():
    with pytest.raises(DataError, match="shows at 0 a picture"):
        assert_disjoint(Shapes(10), Shapes(5))


@pytest.mark.parametrize("held_out", ["colour_shape", "colour_size", "shape_size"])
def test_held_out_combinations_are_in_test_alone(held_out: str):
    def combinations(split: str) -> set[tuple[str, ...]]:
        source = Shapes(1500, split=split, held_out=held_out)  # pyright: ignore[reportArgumentType]
        items = [item for i in range(len(source)) for item in source.scene(i).items]
        return {tuple(getattr(item, name) for name in held_out.split("_")) for item in items}

    train, val, test = (combinations(split) for split in ("train", "val", "test"))
    assert train == val
    assert not train & test
    every = {"colour": set(COLOURS), "shape": set(SHAPES), "size": set(SIZES)}
    for place, name in enumerate(held_out.split("_")):
        assert {c[place] for c in train} == {c[place] for c in test} == every[name]


def test_items_are_apart_inside_the_picture_and_told_apart_by_name():
    source = Shapes(2000)
    counts = [len(source.scene(i).items) for i in range(len(source))]
    assert min(counts.count(n) for n in (1, 2, 3)) > 600
    for i in range(len(source)):
        items = source.scene(i).items
        assert len({item.name for item in items}) == len(items)
        for n, a in enumerate(items):
            assert min(a.x, a.y, 1 - a.x, 1 - a.y) > a.radius - 1 / 512
            assert all(math.dist((a.x, a.y), (b.x, b.y)) >= a.radius + b.radius for b in items[:n])


def test_single_objects_have_balanced_labels_that_name_their_class():
    source = Shapes(3200, objects=(1, 1))
    assert source.classes == CLASSES
    assert len(CLASSES) == 64
    labels = []
    for i in range(len(source)):
        scene = source.scene(i)
        labels.append(CLASSES.index(scene.items[0].name))
        if i < 100:
            assert sample_of(source, i)["label"] == labels[-1]
            assert sample_of(source, i)["captions"][0] == f"a {source.classes[labels[-1]]}"
    assert np.bincount(labels, minlength=64).min() > 20
    assert Shapes(5).classes == ()
    assert "label" not in Shapes(5)[0]


@pytest.mark.parametrize("style", STYLES)
def test_captions_name_all_objects_and_only_those(style: str):
    source = Shapes(300, styles=[style])  # pyright: ignore[reportArgumentType]
    for i in range(len(source)):
        (text,) = sample_of(source, i)["captions"]
        items = source.scene(i).items
        named = OBJECT.findall(text)
        assert {(colour, shape) for _, colour, shape in named} == {(item.colour, item.shape) for item in items}
        sizes = {(colour, shape): size for size, colour, shape in named if size}
        assert sizes == ({(o.colour, o.shape): o.size for o in items} if style in ("sized", "descriptive") else {})


@pytest.mark.parametrize("style", ["relation", "descriptive"])
def test_relations_in_captions_hold_in_the_picture(style: str):
    """Centres are measured in the rendered picture, not taken from the scene."""
    source = Shapes(200, styles=[style], objects=(2, 3))  # pyright: ignore[reportArgumentType]
    seen = set()
    for i in range(len(source)):
        sample = sample_of(source, i)
        centre = {item.name: centroid(item) for item in source.scene(i).items}
        text = sample["captions"][0]
        marks = sorted([*OBJECT.finditer(text), *RELATION.finditer(text)], key=lambda match: match.start())
        for before, middle, after in zip(marks, marks[1:], marks[2:], strict=False):
            if middle.re is RELATION:
                a, b = (centre[f"{m[2]} {m[3]}"] for m in (before, after))
                right, down = a[0] - b[0], a[1] - b[1]
                claims = {"left of": -right, "right of": right, "above": -down, "below": down}
                assert claims[middle[0]] > 5, text
                seen.add(middle[0])
    assert seen == {"left of", "right of", "above", "below"}


def centroid(item: Item) -> tuple[float, float]:
    mask = coverage(item, 64)
    rows, columns = np.indices(mask.shape)
    return float((mask * columns).sum() / mask.sum()), float((mask * rows).sum() / mask.sum())


def test_places_and_backgrounds_in_captions_are_true():
    source = Shapes(300, objects=(1, 1), styles=["descriptive"], backgrounds=list(get_args(Background)))
    seen = set()
    for i in range(len(source)):
        sample = sample_of(source, i)
        text, (item,) = sample["captions"][0], source.scene(i).items
        column, row = (float(np.clip(c / 64, 0, 1)) for c in centroid(item))
        assert ("left" in text) <= (column < 0.39)
        assert ("right" in text) <= (column > 0.61)
        assert ("top" in text) <= (row < 0.39)
        assert ("bottom" in text) <= (row > 0.61)
        corner = int(sample["image"][[0, 0, -1, -1], [0, -1, 0, -1]].max(axis=1).min())
        lowest, highest = TONES[re.search(r"on a (.*) background", text)[1]]  # pyright: ignore[reportOptionalSubscript]
        assert lowest <= corner <= highest
        seen.add((lowest, highest))
    assert seen == set(TONES.values())


def test_caption_styles_of_a_known_scene():
    items = (Item("red", "circle", "small", 0.2, 0.2), Item("blue", "star", "large", 0.5, 0.6))
    scene = Scene((*items, Item("pink", "ring", "medium", 0.8, 0.5)), 200)
    assert [caption(scene, style) for style in STYLES] == [
        "a red circle, a blue star and a pink ring",
        "red circle, blue star, pink ring",
        "a small red circle, a large blue star and a medium pink ring",
        "a red circle above a blue star and a pink ring right of the blue star",
        "a small red circle in the top left above a large blue star in the centre, and a medium pink ring in the "
        "middle right to the right of the blue star on a light grey background",
    ]


def test_meta_says_what_is_drawn_in_json():
    for i in range(30):
        source = Shapes(30)
        meta, scene = json.loads(json.dumps(sample_of(source, i)["meta"])), source.scene(i)
        rebuilt = [Item(**{name: o[name] for name in ("colour", "shape", "size", "x", "y")}) for o in meta["objects"]]
        assert Scene(tuple(rebuilt), meta["tone"]) == scene
        assert meta["background"] == scene.background
        assert [o["radius"] for o in meta["objects"]] == [item.radius for item in scene.items]


def polygon(shape: str) -> list[tuple[float, float]]:
    """Corners in units of the radius, v upwards."""
    if shape == "square":
        return [(0.7, 0.7), (0.7, -0.7), (-0.7, -0.7), (-0.7, 0.7)]
    if shape == "diamond":
        return [(0, 1), (0.646, 0), (0, -1), (-0.646, 0)]
    if shape == "triangle":
        return [(math.sin(a), math.cos(a)) for a in (0, math.tau / 3, -math.tau / 3)]
    if shape == "star":
        radii = [1, 0.42] * 5
        return [(r * math.sin(n * math.pi / 5), r * math.cos(n * math.pi / 5)) for n, r in enumerate(radii)]
    quarter = [(0.3, 0.93), (0.3, 0.3), (0.93, 0.3)]
    return (
        [p for u, v in quarter for p in [(u, v)]]
        + [(u, -v) for u, v in quarter[::-1]]
        + [(-u, -v) for u, v in quarter]
        + [(-u, v) for u, v in quarter[::-1]]
    )


@pytest.mark.parametrize("shape", ["square", "diamond", "triangle", "star", "cross"])
@pytest.mark.parametrize("size", SIZES)
def test_polygons_cover_what_a_supersampled_drawing_covers(shape: str, size: str):
    item, pixels, fine = Item("red", shape, size, 0.43, 0.56), 64, 16
    radius, side = item.radius * pixels * fine, pixels * fine
    corners = [(item.x * side + u * radius - 0.5, item.y * side - v * radius - 0.5) for u, v in polygon(shape)]
    drawing = Image.new("L", (side, side))
    ImageDraw.Draw(drawing).polygon(corners, fill=255)
    expected = np.asarray(drawing).reshape(pixels, fine, pixels, fine).mean(axis=(1, 3)) / 255
    error = coverage(item, pixels) - expected
    assert np.abs(error).max() < 0.4  # at acute tips
    assert np.abs(error).sum() < 0.05 * expected.sum()
    assert abs(error.sum()) < 0.015 * expected.sum()


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", math.pi * 0.95**2),
        ("ring", math.pi * (0.98**2 - 0.54**2)),
        ("heart", 0.37**2 * (8 + 2 * math.pi)),  # a square of half diagonal 0.74 and two half circles on its sides
    ],
)
def test_round_shapes_cover_their_area(shape: str, area: float):
    item = Item("red", shape, "large", 0.47, 0.51)
    assert coverage(item, 128).sum() == pytest.approx(area * (item.radius * 128) ** 2, rel=5e-3)


@pytest.mark.parametrize("size", [16, 17, 33, 64, 100, 256])
def test_edges_are_antialiased_at_any_size(size: int):
    image = render(alone("circle", tone=255), size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    green = image[..., 1]
    assert green.min() == COLOURS["red"][1]
    assert green.max() == 255
    between = (green > green.min() + 10) & (green < 245)
    assert size < between.sum() < 4 * size
    np.testing.assert_array_equal(image, image[::-1])
    np.testing.assert_array_equal(image, image[:, ::-1])


@pytest.mark.parametrize("small", [16, 32, 64])
def test_two_resolutions_show_the_same_scene(small: int):
    source = Shapes(200)
    for i in range(len(source)):
        fine = render(source.scene(i), 4 * small).reshape(small, 4, small, 4, 3).mean(axis=(1, 3))
        difference = np.abs(fine - render(source.scene(i), small))
        assert difference.mean() < 40 / small
        assert difference.max() < 100


def test_colours_stand_out_from_each_other_and_from_every_background():
    greys = [(tone,) * 3 for ends in TONES.values() for tone in range(ends[0], ends[1] + 1)]
    for name, colour in COLOURS.items():
        assert min(math.dist(colour, grey) for grey in greys) > 75, name
        assert min(math.dist(colour, other) for other in COLOURS.values() if other != colour) > 75, name


def test_captions_are_read_without_drawing_and_agree(monkeypatch: pytest.MonkeyPatch):
    source = Shapes(20, styles=["terse", "plain"])
    expected = [text for i in range(20) for text in sample_of(source, i)["captions"]]
    monkeypatch.setattr("mmfound.data.sources.shapes.render", lambda *_: pytest.fail("drawn"))
    assert list(source.captions()) == expected


def test_fingerprint_changes_with_what_changes_samples():
    options = [
        {},
        {"count": 6},
        {"size": 32},
        {"split": "val"},
        {"objects": (1, 2)},
        {"seed": 1},
        {"styles": ["terse"]},
    ]
    options += [{"held_out": "colour_size"}, {"backgrounds": ["black"]}]
    prints = {Shapes(**{"count": 5, **option}).fingerprint() for option in options}  # pyright: ignore[reportArgumentType]
    assert len(prints) == len(options)
    assert Shapes(5).fingerprint() == Shapes(5).fingerprint()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"size": 4}, "size is 4"),
        ({"split": "dev"}, "split is dev"),
        ({"objects": (2, 1)}, r"objects is \(2, 1\)"),
        ({"objects": (1, 4)}, r"objects is \(1, 4\)"),
        ({"styles": []}, "styles is"),
        ({"styles": ["rude"]}, "rude"),
        ({"backgrounds": ["blue"]}, "backgrounds is"),
        ({"held_out": "tone"}, "held_out is tone"),
    ],
)
def test_arguments_out_of_range_are_named(option: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        Shapes(**option)  # pyright: ignore[reportArgumentType]


def test_an_index_out_of_range_ends_iteration():
    assert len(list(Shapes(3))) == 3  # pyright: ignore[reportArgumentType]
    with pytest.raises(IndexError, match="no number 3"):
        Shapes(3)[3]
