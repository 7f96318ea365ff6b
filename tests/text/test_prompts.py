"""Prompts: templates and names from lists, files and the installed open_clip."""

import json
from pathlib import Path

import pytest

from mmfound.errors import ConfigError
from mmfound.text import Prompts
from mmfound.text.prompts import load_class_names, load_templates


def test_every_class_gets_every_template_in_order():
    assert Prompts(["a {}.", "the {}, a {}"]).apply(["cat", "{dog}"]) == [
        ["a cat.", "the cat, a cat"],
        ["a {dog}.", "the {dog}, a {dog}"],
    ]
    assert Prompts().apply(["cat"]) == [["a photo of a cat."]]
    assert Prompts("a {}").apply(["cat"]) == [["a cat"]]


def test_template_without_a_place_is_named():
    with pytest.raises(ConfigError, match="'a photo of a cat' has no {}"):
        Prompts(["a {}", "a photo of a cat"])


@pytest.mark.parametrize(
    ("name", "content", "dataset"),
    [
        ("t.txt", "a {}\n\nthe {}\n", None),
        ("t.json", ["a {}", "the {}"], None),
        ("t.json", {"pets": ["a {c}", "the {c}"], "cars": ["car {c}"]}, "pets"),
        ("t.json", {"pets": {"classes": ["cat"], "templates": ["a {}", "the {}"]}}, "pets"),
        ("t.json", {"custom": {"pets": ["a {}", "the {}"]}}, "custom/pets"),
    ],
)
def test_files_of_every_layout_give_the_same_templates(tmp_path: Path, name: str, content: object, dataset: str | None):
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert load_templates(tmp_path / name, dataset) == ["a {}", "the {}"]
    assert load_templates(str(tmp_path / name), dataset) == ["a {}", "the {}"]


def test_class_names_of_a_data_set(tmp_path: Path):
    (tmp_path / "n.json").write_text(json.dumps({"pets": {"classes": ["cat", "dog"], "templates": []}, "x": ["car"]}))
    assert load_class_names(tmp_path / "n.json", "pets") == ["cat", "dog"]
    assert load_class_names(tmp_path / "n.json", "x") == ["car"]


def test_unusable_files_and_names_say_what_there_is(tmp_path: Path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"pets": ["a {}"], "cars": []}))
    with pytest.raises(ConfigError, match=r"name one with `dataset`: \['cars', 'pets'\]"):
        load_templates(path)
    with pytest.raises(ConfigError, match=r"no data set 'dogs'.*\['cars', 'pets'\]"):
        load_templates(path, "dogs")
    with pytest.raises(ConfigError, match="holds none"):
        load_templates(path, "cars")
    with pytest.raises(ConfigError, match="'absent.json' is no file"):
        load_templates("absent.json")
    path.write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        load_templates(path)


def test_imagenet_comes_from_the_installed_open_clip(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("open_clip", reason="needs the extra mmfound[pretrained]")
    assert len(load_templates("imagenet")) == 80
    assert len(load_templates("imagenet_simple")) == 7
    assert "a photo of a {}." in load_templates("imagenet")
    assert load_class_names("imagenet")[0] == "tench"
    assert len(load_class_names("imagenet")) == 1000
    monkeypatch.setattr("mmfound.text.installed.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"mmfound\[pretrained\]"):
        load_templates("imagenet")


def test_shared_template_files_load(shared_data: Path):
    text = shared_data / "text"
    assert load_templates(text / "imagenet_templates_80.json") == load_templates("imagenet")
    assert len(load_templates(text / "clip_prompts.json", "Food101")) == 1
    assert len(load_class_names(text / "clip_prompts.json", "Food101")) == 101
    assert load_templates(text / "coop_templates.json", "custom/OxfordPets") == ["a photo of a {}, a type of pet."]
