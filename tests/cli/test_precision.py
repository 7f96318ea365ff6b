"""bf16-mixed on processors with and without instructions for bfloat16."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from lightning.pytorch import Trainer

from mmfound.cli import precision

FIT = ("fit", "--config", "toy/small", "--trainer.max_steps", "1", "--trainer.accelerator", "cpu")


@pytest.mark.parametrize(("slower", "expected"), [(30.0, "32-true"), (0.7, "bf16-mixed")])
def test_bfloat16_is_left_out_where_it_is_slow(monkeypatch: pytest.MonkeyPatch, slower: float, expected: str):
    monkeypatch.setattr(precision, "bfloat16_slowdown", lambda: slower)
    trainer = Trainer(accelerator="cpu", precision="bf16-mixed", logger=False)
    precision.compute_in_float32_if_faster(trainer)
    assert trainer.precision == expected


@pytest.mark.parametrize("chosen", ["32-true", "bf16-true"])
def test_other_precisions_stay(monkeypatch: pytest.MonkeyPatch, chosen: Literal["32-true", "bf16-true"]):
    monkeypatch.setattr(precision, "bfloat16_slowdown", lambda: 30.0)
    trainer = Trainer(accelerator="cpu", precision=chosen, logger=False)
    precision.compute_in_float32_if_faster(trainer)
    assert trainer.precision == chosen


def test_a_run_says_so_and_keeps_the_recipe(run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision, "bfloat16_slowdown", lambda: 30.0)
    code, out, err = run(*FIT, "--trainer.precision", "bf16-mixed")
    assert code == 0, err
    assert "multiplies bfloat16 30 times slower than float32" in out
    assert "--trainer.precision 32-true" in out
    assert "precision: bf16-mixed" in (folder / "runs/toy/small/config.yaml").read_text()


def test_the_slowdown_is_measured():
    assert 0.1 < precision.bfloat16_slowdown() < 1000
    assert torch.get_default_dtype() == torch.float32
