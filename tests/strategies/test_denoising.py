"""A denoiser learns the same however its batches and weights are split."""

import json
from pathlib import Path

import pytest
import torch

from tests.strategies.fits import Fit, run
from tests.strategies.runs import exported, metric

RECIPE = Path(__file__).with_name("denoising.yaml")
SPLIT = ["fsdp2", pytest.param("deepspeed_zero3", marks=pytest.mark.slow)]


def fit(run_dir: Path, overlay: str, *options: str, ranks: int) -> Fit:
    words = ["--config", str(RECIPE), "--config", f"machines/{overlay}", "--trainer.accelerator", "cpu"]
    return ["fit", *words, "--trainer.devices", str(ranks), "--run_dir", str(run_dir), *options], {}


def losses(run_dir: Path, accumulation: int = 1) -> dict[tuple[str, ...], float]:
    """Of every micro-batch of every rank, by the keys of its samples."""
    lines = [line for file in run_dir.glob("record.*.jsonl") for line in file.read_text().splitlines() if line]
    return {tuple(seen["keys"]): float.fromhex(seen["loss"]) * accumulation for seen in map(json.loads, lines)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("denoising")
    micro_batches = fit(root / "alone", "cpu", "--data.init_args.micro_batch_size", "4", ranks=1)
    assert run(1, [micro_batches]) == [0]
    assert run(2, [fit(root / overlay, overlay, ranks=2) for overlay in ("ddp", "fsdp2")]) == [0, 0]
    return root


def test_two_ranks_learn_what_one_learns_in_two_micro_batches(root: Path):
    alone, ranks = losses(root / "alone", accumulation=2), losses(root / "ddp")
    assert len(alone) == 8
    assert ranks == pytest.approx(alone, rel=1e-5)  # noise, times, dropped captions and dropout included
    torch.testing.assert_close(exported(root / "ddp"), exported(root / "alone"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("overlay", SPLIT)
def test_split_weights_learn_and_draw_the_same(root: Path, overlay: str):
    if not (root / overlay).exists():
        assert run(2, [fit(root / overlay, overlay, ranks=2)]) == [0]
    torch.testing.assert_close(exported(root / overlay), exported(root / "ddp"), rtol=0, atol=1e-6)
    assert losses(root / overlay) == pytest.approx(losses(root / "ddp"), rel=1e-5)
    assert metric(root / overlay, "val/loss") == pytest.approx(metric(root / "ddp", "val/loss"), rel=1e-5)
    drawn, expected = ((root / name / "samples" / "step_4.png").read_bytes() for name in (overlay, "ddp"))
    assert drawn == expected


def test_split_matrices_have_whole_steps(tmp_path: Path):
    muon = ("--config", str(RECIPE.with_name("muon.yaml")))
    overlays = ["ddp", "fsdp2"]
    fits = [fit(tmp_path / name, name, *muon, ranks=2) for name in overlays]
    cut = fit(tmp_path / "cut", "deepspeed_zero2", *muon, ranks=2)
    assert run(2, [*fits, cut]) == [0, 0, 2]
    whole, split = (exported(tmp_path / name) for name in overlays)
    torch.testing.assert_close(split, whole, rtol=0, atol=1e-5)


def test_checkpoints_lack_the_frozen_tower_and_exports_have_it(root: Path):
    checkpoint = max((root / "ddp" / "checkpoints").glob("*.ckpt"))
    saved = torch.load(checkpoint, weights_only=True)["state_dict"].keys()
    whole = {f"stage.{name}" for name in exported(root / "ddp")}
    assert {name.split(".")[3] for name in whole - saved} == {"tower"}
    assert saved <= whole


@pytest.mark.slow
def test_a_run_of_zero3_goes_on_and_draws_without_a_validation_before(tmp_path: Path):
    """The frozen tower is called by another method than `forward`, and its weights must be there then too."""
    more = fit(tmp_path / "run", "deepspeed_zero3", "--trainer.max_steps", "6", ranks=2)
    assert run(2, [fit(tmp_path / "run", "deepspeed_zero3", ranks=2), more]) == [0, 0]
    assert (tmp_path / "run" / "samples" / "step_6.png").is_file()
