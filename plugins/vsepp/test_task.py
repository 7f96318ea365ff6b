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
