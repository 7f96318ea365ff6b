"""A batch that makes the loss NaN: stopped at, left out, or gone around."""

from pathlib import Path

import pytest
import torch

from mmfound.runs import saved
from tests.resume import drill

POISON = ("--divergence.policy",)


def finite(run: Path) -> bool:
    return all(drill.is_finite(path) for path in saved.by_step(run).values()) and saved.newest(run) is not None


def test_stop_names_the_batch_and_leaves_good_checkpoints(tmp_path: Path):
    done = drill.fit(tmp_path, *POISON, "stop", overlays=["poison.yaml"])
    assert done.returncode == 5, done.stderr
    assert "error: step 9: loss nan" in done.stderr
    assert "samples 128 and on: " in done.stderr
    assert drill.summary(tmp_path)["exit_code"] == 5
    assert finite(tmp_path)


@pytest.mark.parametrize("ranks", [1, 2])
def test_rollback_leaves_the_batch_out_for_good(ranks: int, tmp_path: Path):
    more = [] if ranks == 1 else ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = drill.fit(tmp_path, *POISON, "rollback", *more, overlays=["poison.yaml"])
    assert done.returncode == 0, done.stderr
    assert "back to" in done.stdout
    checkpoint = torch.load(tmp_path / drill.LAST, weights_only=True)
    loader = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]
    assert loader["skipped"] == [128]
    assert loader["position"] == 15 * 16  # one batch more than steps
    assert [row["step"] for row in drill.rows(tmp_path) if row["train/loss"]] == [str(step) for step in range(14)]
    assert finite(tmp_path)


def test_rollback_out_of_a_validation_goes_on_in_training_mode(tmp_path: Path):
    # Two ranks learn of step 8 when they are to save, after the validation that follows it.
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--checkpoints.every_n_steps", "1"]
    after = ["--model.init_args.encoder.image_tower.init_args.after", "8"]
    done = drill.fit(tmp_path, *POISON, "rollback", *two, *after, overlays=["poison.yaml"])
    assert done.returncode == 0, done.stderr
    assert "back to" in done.stdout
    assert all(line["training"] for rank in (0, 1) for line in drill.record(tmp_path, rank))
    assert drill.summary(tmp_path)["exit_code"] == 0
    assert "failed_rank" not in drill.summary(tmp_path)
    assert finite(tmp_path)


def test_rollback_with_nothing_to_go_back_to_stops(tmp_path: Path):
    after = ["--model.init_args.encoder.image_tower.init_args.after", "1"]
    done = drill.fit(tmp_path, *POISON, "rollback", *after, overlays=["poison.yaml"])
    assert done.returncode == 5, done.stderr
    assert "there is no checkpoint yet to go back to" in done.stderr
    assert drill.summary(tmp_path)["exit_code"] == 5


def test_skip_trains_on_without_the_step(tmp_path: Path):
    done = drill.fit(tmp_path, *POISON, "skip", overlays=["poison.yaml"])
    assert done.returncode == 0, done.stderr
    assert "The step is left out (1 so far)" in done.stderr
    assert finite(tmp_path)
