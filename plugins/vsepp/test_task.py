"""The loss by hand, and the recipe through the command line: it trains, scores, and goes on."""

import json
from pathlib import Path

import pytest
import torch

from mmfound.cli import main
from plugins.vsepp.task import hardest_negative_loss


def test_loss_takes_the_hardest_negative_and_spares_equal_captions():
    image, text = torch.eye(3), torch.tensor([[0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.6, 0.8]])
    assert hardest_negative_loss(image, text, torch.arange(3), 0.5).item() == pytest.approx(0.7 / 3)
    assert hardest_negative_loss(image, text, torch.zeros(3), 0.5).item() == 0


def test_recipe_trains_scores_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    fit = ["fit", "--config", "plugins/vsepp/recipe.yaml", "--run_dir", str(tmp_path), "--data.workers", "0"]
    assert [main([*fit, "--data.global_batch_size", "16", "--trainer.max_steps", steps]) for steps in "24"] == [0, 0]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["steps"] == 4
    assert 0 <= summary["metrics"]["val/text_to_image_r1"] <= 1


def test_its_loss_over_a_batch_in_chunks_is_that_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    tower = "{class_path: mmfound.models.TimmTower, init_args: {name: test_vit, embed_dim: 128, image_size: 64}}"
    quick = ["--data.workers", "0", "--data.global_batch_size", "16", "--trainer.max_steps", "3", "--evaluators", "[]"]
    exact = ["--model.encoder.image_tower", tower, "--trainer.precision", "32-true", "--trainer.log_every_n_steps", "1"]
    losses = []
    for micro in (16, 4):
        run = tmp_path / str(micro)
        where = ["--run_dir", str(run), "--data.micro_batch_size", str(micro)]
        assert main(["fit", "--config", "plugins/vsepp/recipe.yaml", *quick, *exact, *where]) == 0
        losses.append(json.loads((run / "summary.json").read_text())["metrics"]["train/loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
