"""Micro-batches of a recipe whose loss is over the whole batch."""

import csv
from pathlib import Path

import pytest

from mmfound.cli import main

VIT = "{class_path: mmfound.models.TimmTower, init_args: {name: test_vit, embed_dim: 64, image_size: 32}}"
QUICK = ("--data.workers", "0", "--data.global_batch_size", "32", "--trainer.max_steps", "4", "--evaluators", "[]")


def losses(run: Path, *options: str) -> list[float]:
    recipe = ("fit", "--config", "clip/digits", "--trainer.precision", "32-true", "--trainer.log_every_n_steps", "1")
    assert main([*recipe, *QUICK, "--model.encoder.image_tower", VIT, "--run_dir", str(run), *options]) == 0
    with open(run / "metrics.csv", newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def test_a_recipe_in_micro_batches_has_the_losses_of_the_whole_batch(tmp_path: Path):
    whole = losses(tmp_path / "whole")
    assert len(whole) == 4
    assert losses(tmp_path / "parts", "--data.init_args.micro_batch_size", "8") == pytest.approx(whole, rel=1e-5)


def test_batch_normalisation_is_refused_before_the_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ("--run_dir", str(tmp_path), "--data.init_args.micro_batch_size", "8")
    assert main(["fit", "--config", "clip/digits", *QUICK, *options]) == 2
    said = capsys.readouterr().err
    assert "encoder.image_tower.layers.0.1 (BatchNorm2d and 4 more) normalises by the statistics" in said
