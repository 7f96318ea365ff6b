"""Every recipe parses and builds, and its header says what it reproduces."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mmfound.cli import main

ROOT = Path(__file__).resolve().parents[2]
RECIPES = [path for path in sorted((ROOT / "recipes").rglob("*.yaml")) if path.parent.name not in ("machines", "eval")]
OVERLAYS = sorted([*(ROOT / "recipes" / "machines").glob("*.yaml"), *(ROOT / "recipes" / "eval").glob("*.yaml")])
RECIPES += sorted((ROOT / "plugins").glob("*/recipe.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_recipe_parses(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(ROOT)
    assert main(["fit", "--config", str(recipe), "--print_config"]) == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    written = yaml.safe_load(recipe.read_text())
    assert resolved["model"]["class_path"].split(".")[-1] == written["model"]["class_path"].split(".")[-1]
    assert resolved["trainer"]["max_steps"] == written["trainer"]["max_steps"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_recipe_says_what_it_is(recipe: Path):
    assert recipe.read_text().startswith("# ")


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_overlay_goes_on_top_of_a_recipe(overlay: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(ROOT)
    assert main(["fit", "--config", "clip/quickstart", "--config", str(overlay), "--print_config"]) == 0
    resolved = yaml.safe_load(capsys.readouterr().out)["trainer"]
    trainer = yaml.safe_load(overlay.read_text()).get("trainer", {})
    assert holds(resolved, trainer)


def holds(resolved: Any, given: Any) -> bool:
    """Whether everything that is given is in what came of it, beside defaults."""
    if isinstance(given, dict):
        return all(key in resolved and holds(resolved[key], value) for key, value in given.items())
    return resolved == given
