"""Run folders: their place, numbered texts, disk space."""

from pathlib import Path

import pytest

from mmfound.errors import ConfigError, DiskFullError
from mmfound.runs import folder


@pytest.mark.parametrize(
    ("recipes", "expected"),
    [
        (["recipes/clip/quickstart.yaml"], "runs/clip/quickstart"),
        (["/opt/mmfound/_recipes/clip/rn50.yaml"], "runs/clip/rn50"),
        (["/home/me/recipes/unclip/2_prior.yaml"], "runs/unclip/2_prior"),
        (["recipes/machines/cpu.yaml", "recipes/clip/rn50.yaml"], "runs/clip/rn50"),
        (["recipes/clip/rn50.yaml", "overlay.yaml"], "runs/clip/rn50"),
        (["plugins/vsepp/recipe.yaml"], "runs/vsepp"),
        (["mine.yaml"], "runs/mine"),
        (["/tmp/a/mine.yaml"], "runs/mine"),
    ],
)
def test_default_folder_follows_from_the_recipes_place(recipes: list[str], expected: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folder.default_folder([Path(recipe) for recipe in recipes]) == Path(expected)


def test_saved_configuration_belongs_to_its_folder(tmp_path: Path):
    (tmp_path / "env.json").write_text("{}")
    for name in ("config.yaml", "config.r12.yaml"):
        assert folder.default_folder([tmp_path / name]) == tmp_path


def test_only_overlays_name_no_folder():
    with pytest.raises(ConfigError, match="--run_dir"):
        folder.default_folder([Path("recipes/machines/cpu.yaml")])


def test_texts_are_numbered_and_kept_only_when_changed(tmp_path: Path):
    for text in ["a", "a", "b", "b", "a"]:
        folder.keep_text(tmp_path, "config.yaml", text)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "config.yaml": "a",
        "config.r1.yaml": "b",
        "config.r2.yaml": "a",
    }


def test_numbering_goes_on_after_ten(tmp_path: Path):
    for number in range(12):
        folder.keep_text(tmp_path, "config.yaml", str(number))
    assert folder.newest_text(tmp_path, "config.yaml") == tmp_path / "config.r11.yaml"


def test_changes_name_the_dotted_key():
    before = {"a": {"b": 1, "c": [1]}, "d": 2}
    assert folder.changes(before, {"a": {"b": 3, "c": [1]}, "e": 4}) == ["a.b: 1 -> 3", "d: 2 -> None", "e: None -> 4"]


def test_full_disk_is_found_where_the_folder_would_be(tmp_path: Path):
    folder.check_space(tmp_path / "not" / "there" / "yet", needed=1)
    with pytest.raises(DiskFullError, match="1 MB free, at least 2 MB needed"):
        folder.check_space(tmp_path, needed=2 * 2**20, free=lambda path: 2**20)
