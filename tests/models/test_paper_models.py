"""Every paper recipe builds the model of the paper, without memory for its weights."""

from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from mmfound.tasks import Task

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "clip"
MILLION_PARAMETERS = {  # as open_clip lists them (docs/model_profile.csv), to one decimal
    "rn50": 102.0,
    "rn101": 119.7,
    "rn50x4": 178.3,
    "rn50x16": 291.0,
    "rn50x64": 623.3,
    "vit_b32": 151.3,
    "vit_b16": 149.6,
    "vit_l14": 427.6,
    "vit_l14_336": 427.6 + 320 * 1024 / 1e6,  # not listed: vit_l14 with 24**2 positions for 16**2
}


def build(recipe: Path) -> Task:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Task, "model")
    config = parser.parse_object({"model": yaml.safe_load(recipe.read_text())["model"]})
    with torch.device("meta"):
        return parser.instantiate(config).model


@pytest.mark.parametrize("name", MILLION_PARAMETERS)
def test_paper_recipe_has_the_paper_s_number_of_parameters(name: str):
    task = build(RECIPES / f"{name}.yaml")
    parameters = sum(p.numel() for p in task.parameters())
    assert parameters / 1e6 == pytest.approx(MILLION_PARAMETERS[name], abs=0.06)
    assert all(p.is_meta for p in task.parameters())


@pytest.mark.parametrize("name", MILLION_PARAMETERS)
def test_paper_recipe_s_towers_meet_in_one_space_with_heads_of_64(name: str):
    encoder = build(RECIPES / f"{name}.yaml").encoder
    assert encoder.image_tower.model.num_classes == encoder.text_tower.text_projection.shape[1]
    assert encoder.text_tower.ln_final.normalized_shape[0] == 64 * encoder.text_tower.blocks[0].attn.heads
