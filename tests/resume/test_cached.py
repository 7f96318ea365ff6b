"""A step whose batch is encoded in chunks: elastic, and resumed by bytes."""

from pathlib import Path

import pytest
import torch

from tests.resume import drill

OVERLAYS = ("cached.yaml",)
STEPS, GLOBAL = 8, 16
LAST = f"checkpoints/step={STEPS:08}.ckpt"
TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


def in_parts_of(size: int) -> tuple[str, str]:
    return "--data.micro_batch_size", str(size)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, two chunks a step."""
    run = tmp_path_factory.mktemp("whole") / "run"
    done = drill.fit(run, *in_parts_of(8), overlays=OVERLAYS)
    assert done.returncode == 0, done.stderr
    return run


def losses(run: Path, rank: int) -> list[float]:
    return [float.fromhex(line["loss"]) for line in drill.record(run, rank)]


def trained(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / LAST, weights_only=True)["state_dict"]


@pytest.mark.parametrize("size", [8, 4])
def test_two_ranks_are_one_rank_with_twice_the_chunks(size: int, tmp_path: Path):
    options = (*in_parts_of(size), "--trainer.precision", "64-true")
    for run, ranks in (("one", ()), ("two", TWO)):
        done = drill.fit(tmp_path / run, *options, *ranks, overlays=OVERLAYS)
        assert done.returncode == 0, done.stderr
    alone = losses(tmp_path / "one", 0)
    pairs = zip(losses(tmp_path / "two", 0), losses(tmp_path / "two", 1), strict=True)
    assert [sum(pair) / 2 for pair in pairs] == pytest.approx(alone, rel=1e-9)
    for name, weight in trained(tmp_path / "one").items():
        torch.testing.assert_close(trained(tmp_path / "two")[name], weight, rtol=1e-6, atol=1e-9, msg=name)


def test_a_resumed_run_is_the_same_run(whole: Path, tmp_path: Path):
    killed = drill.fit(tmp_path, *in_parts_of(8), overlays=OVERLAYS, interrupt="in_step:5:SIGKILL")
    assert killed.returncode == -9, killed.stderr
    again = drill.fit(tmp_path, *in_parts_of(8), overlays=OVERLAYS)
    assert again.returncode == 0, again.stderr
    assert "going on from" in again.stdout
    assert drill.differences(tmp_path, whole, last=LAST) == []


def test_a_step_counts_once_whatever_its_chunks(whole: Path):
    assert [line["position"] for line in drill.record(whole, 0)] == list(range(GLOBAL, GLOBAL * STEPS + 1, GLOBAL))
    assert all(len(line["keys"]) == GLOBAL for line in drill.record(whole, 0))
    assert drill.summary(whole)["samples"] == GLOBAL * STEPS
    assert [row["step"] for row in drill.rows(whole) if row["val/loss"]] == ["3", "7"]


def test_a_loss_that_is_not_finite_is_told_with_its_position(tmp_path: Path):
    poison = ("--model.encoder.image_tower.class_path", "parts.Poisoned")
    tower = ("--model.encoder.image_tower.init_args.tower.class_path", "mmfound.models.TimmTower")
    size = ("--model.encoder.image_tower.init_args.tower.init_args.image_size", "32")
    name = ("--model.encoder.image_tower.init_args.tower.init_args.name", "test_vit")
    width = ("--model.encoder.image_tower.init_args.tower.init_args.embed_dim", "64")
    # A step takes two forward passes and two more in the backward pass: the second chunk of the second step.
    after = ("--model.encoder.image_tower.init_args.after", "6")
    options = (*poison, *tower, *size, *name, *width, *after, *in_parts_of(8))
    done = drill.fit(tmp_path, *options, overlays=OVERLAYS)
    assert done.returncode == 5, done.stderr
    assert f"samples {GLOBAL} and on" in done.stderr
