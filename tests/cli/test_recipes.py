"""Recipes: where they are found, and how they are layered."""

from pathlib import Path

import pytest
import yaml

from mmfound.cli import recipes
from mmfound.errors import ConfigError


def printed(run, *argv: str) -> dict:
    code, out, err = run("fit", *argv, "--print_config")
    assert code == 0, err
    return yaml.safe_load(out)


def test_later_configs_and_then_options_win(run, folder: Path):
    (folder / "recipes" / "machines").mkdir()
    (folder / "recipes/machines/tiny.yaml").write_text("trainer: {devices: 1, max_steps: 5}\n")
    layered = ["--config", "toy/small", "--config", "machines/tiny"]
    resolved = printed(run, *layered)
    assert resolved["trainer"]["max_steps"] == 5
    assert resolved["trainer"]["val_check_interval"] == 2
    resolved = printed(run, *layered, "--trainer.max_steps", "6", "--model.pair.tower.width", "9")
    assert resolved["trainer"]["max_steps"] == 6
    assert resolved["model"]["init_args"]["pair"]["init_args"]["tower"]["init_args"]["width"] == 9


def test_printed_config_is_a_recipe_with_the_same_meaning(run, folder: Path):
    once = printed(run, "--config", "toy/small")
    (folder / "printed.yaml").write_text(yaml.safe_dump(once))
    assert printed(run, "--config", "printed.yaml") == once
    assert once["model"]["init_args"]["optim"]["init_args"]["optimizer"]["init_args"]["lr"] == 1e-2


def test_own_folder_comes_before_the_shipped_recipes(folder: Path):
    shipped = recipes.find("clip/quickstart")
    assert shipped.is_file()
    (folder / "recipes/clip").mkdir()
    (folder / "recipes/clip/quickstart.yaml").write_text("# Mine.\n")
    assert recipes.find("clip/quickstart") == folder / "recipes/clip/quickstart.yaml"
    assert recipes.find("clip/quickstart.yaml") == folder / "recipes/clip/quickstart.yaml"
    assert recipes.find("recipes/clip/quickstart.yaml").samefile(folder / "recipes/clip/quickstart.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1.0e-4", 0.0001), ("90_000", 90000), (".5", 0.5), ("2020-01-01", "2020-01-01"), ("1e", "1e")],
)
def test_numbers_are_read_as_written_in_papers(text: str, value: object):
    found = recipes.parse(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_anchors_and_merge_keys_are_not_duplicates():
    tree = recipes.parse("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert tree["b"] == {"x": 3, "y": 2}


def test_yaml_never_makes_objects(folder: Path):
    (folder / "bad.yaml").write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        recipes.read(folder / "bad.yaml")
