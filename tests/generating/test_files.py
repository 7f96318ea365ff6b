"""PNGs that say what they are, and the sheet."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mmfound.errors import ConfigError
from mmfound.generating.files import facts_of, is_drawn, write_picture
from mmfound.sheets import contact_sheet

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
FACTS = {"prompt": "ein rotes Ü-Quadrat ■\nzweite Zeile", "seed": 3, "index": 10_002, "stages": [{"steps": 20}]}


def test_a_picture_keeps_its_pixels_and_says_what_it_was_drawn_with(tmp_path: Path):
    write_picture(tmp_path / "a.png", PIXELS, FACTS)
    with Image.open(tmp_path / "a.png") as picture:
        assert (np.asarray(picture) == PIXELS).all()
        assert picture.info["prompt"] == FACTS["prompt"]
        assert (picture.info["seed"], picture.info["index"]) == ("3", "10002")
    assert facts_of(tmp_path / "a.png") == FACTS
    assert is_drawn(tmp_path / "a.png", FACTS)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_setting_that_differs_is_named(tmp_path: Path):
    write_picture(tmp_path / "a.png", PIXELS, FACTS)
    with pytest.raises(ConfigError, match=r"a\.png was drawn with stages\.0\.steps: 20, and now it is 30"):
        is_drawn(tmp_path / "a.png", {**FACTS, "stages": [{"steps": 30}]})
    with pytest.raises(ConfigError, match="strength: None, and now it is 0.5"):
        is_drawn(tmp_path / "a.png", {**FACTS, "strength": 0.5})


def test_half_a_file_is_drawn_again_and_somebody_elses_is_not_touched(tmp_path: Path):
    path = tmp_path / "a.png"
    assert not is_drawn(path, FACTS)
    write_picture(path, PIXELS, FACTS)
    path.write_bytes(path.read_bytes()[:-30])
    assert not is_drawn(path, FACTS)
    path.write_bytes(b"")
    assert not is_drawn(path, FACTS)
    write_picture(path, PIXELS, FACTS)
    broken = PngInfo()
    broken.add_text("mmfound", "{")
    Image.fromarray(PIXELS).save(path, pnginfo=broken)
    with pytest.raises(ConfigError, match="is in the way"):
        is_drawn(path, FACTS)
    for kind in ("PNG", "JPEG"):
        Image.fromarray(PIXELS).save(path, kind)
        with pytest.raises(ConfigError, match="is in the way"):
            is_drawn(path, FACTS)


def test_sheet_has_a_cell_for_each_picture_and_room_for_texts_and_heads_only_where_there_are_some():
    plain = contact_sheet([PIXELS] * 5, [""] * 5, columns=3, side=40)
    assert plain.size == (3 * 48 + 8, 2 * 48 + 8)
    with_texts = contact_sheet([PIXELS] * 5, ["a red square"] * 5, columns=3, side=40)
    with_heads = contact_sheet([PIXELS] * 6, [""] * 6, columns=3, heads=("a", "b", "c"), side=40)
    assert with_texts.width == with_heads.width == plain.width
    assert with_texts.height > plain.height < with_heads.height


def test_pictures_keep_their_proportions_on_the_sheet():
    wide = np.zeros((10, 40, 3), np.uint8)
    sheet = np.asarray(contact_sheet([wide], [""], columns=1, side=80))
    rows, columns = np.nonzero((sheet == 0).all(2))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 80)
