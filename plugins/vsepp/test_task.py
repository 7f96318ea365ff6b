"""VSE++ as a plug-in: the loss by hand, and the recipe through the command line."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from mmfound.cli import main

ROOT = Path(__file__).resolve().parents[2]


def _task_file():
    spec = importlib.util.spec_from_file_location("vsepp_task", Path(__file__).with_name("task.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_loss_takes_the_hardest_negative_of_each_row():
    image_BE = torch.eye(3, dtype=torch.float64)
    text_BE = torch.tensor([[0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.6, 0.8]], dtype=torch.float64)
    loss = _task_file().hardest_negative_loss(image_BE, text_BE, torch.arange(3), margin=0.2)
    image_to_text = (0.0 + 0.0 + 0.0 + 0.0) / 3  # best negatives 0, 0.6, 0 against pairs 0.8, 1.0, 0.8
    text_to_image = (0.0 + 0.0 + 0.0) / 3  # negatives 0.6, 0, 0.6: 0.2 + 0.6 - 0.8 = 0
    assert loss.item() == pytest.approx(image_to_text + text_to_image, abs=1e-12)
    harder = _task_file().hardest_negative_loss(image_BE, text_BE, torch.arange(3), margin=0.5)
    assert harder.item() == pytest.approx((0.0 + 0.1 + 0.0) / 3 + (0.3 + 0.0 + 0.3) / 3, abs=1e-12)


def test_equal_captions_are_no_negatives():
    image_BE = torch.nn.functional.normalize(torch.randn(4, 8, dtype=torch.float64), dim=1)
    loss = _task_file().hardest_negative_loss(image_BE, image_BE, torch.zeros(4, dtype=torch.int64), margin=0.2)
    assert loss.item() == 0.0


def test_recipe_trains_logs_evaluates_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    small = ["--run_dir", str(tmp_path), "--data.micro_batch_size", "16", "--data.global_batch_size", "16"]
    small += ["--trainer.val_check_interval", "2", "--data.workers", "0"]
    command = ["fit", "--config", "plugins/vsepp/recipe.yaml", *small]
    assert main([*command, "--trainer.max_steps", "2"]) == 0
    assert main([*command, "--trainer.max_steps", "4"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["steps"] == 4
    assert 0 <= summary["metrics"]["val/text_to_image_r1"] <= 1
    steps = [line.split(",")[0] for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert steps
