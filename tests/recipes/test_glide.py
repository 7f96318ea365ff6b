"""GLIDE's recipes have the published sizes, and each begins with the weights of the one before."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mmfound.building import build
from mmfound.diffusion import Stage

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "glide"


def written(recipe: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{recipe}.yaml").read_text())


def stage(recipe: str) -> Stage:
    """The recipe's, without memory for its weights."""
    with torch.device("meta"):
        arguments = written(recipe)["model"]["init_args"]["stage"]
        return build({"class_path": "mmfound.diffusion.Stage", "init_args": arguments}, recipe)


@pytest.mark.parametrize(
    ("recipe", "weights"),
    [
        ("base", 385_030_726),
        ("upsampler", 398_361_286),
        ("inpaint", 385_030_726 + 6_912),
        ("upsampler_inpaint", 398_361_286 + 6_912),
    ],
)
def test_sizes_are_those_of_the_released_weights(recipe: str, weights: int):
    assert sum(p.numel() for p in stage(recipe).parameters()) == weights


@pytest.mark.parametrize(("recipe", "billions"), [("paper_base", 3.5), ("paper_upsampler", 1.5)])
def test_sizes_are_those_of_the_paper(recipe: str, billions: float):
    assert abs(sum(p.numel() for p in stage(recipe).parameters()) / 1e9 - billions) < 0.06


CHAIN = [recipe for recipe in sorted(path.stem for path in FOLDER.glob("*.yaml")) if "init_from" in written(recipe)]


@pytest.mark.parametrize("recipe", CHAIN)
def test_a_recipe_begins_with_the_weights_it_names(recipe: str):
    before, after = stage(written(recipe)["init_from"].split("/")[2]), stage(recipe)
    own, found = after.state_dict(), after.fitted(before.state_dict())
    assert {name: tensor.shape for name, tensor in own.items()} == {n: t.shape for n, t in found.items()}


def test_there_are_recipes_that_begin_with_others():
    assert set(CHAIN) >= {"finetune", "inpaint", "shapes_inpaint", "upsampler_inpaint"}


def test_only_those_are_guided_that_are_dropped():
    for path in sorted(FOLDER.glob("*.yaml")):
        if "stage" not in written(path.stem)["model"]["init_args"]:
            continue
        made = stage(path.stem)
        assert (made.sampling.guidance is not None) == any(part.drop > 0 for part in made.parts()), path.stem
