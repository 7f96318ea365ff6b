"""What a start finds in the run folder: damage, another owner, another recipe, weights to begin with."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mmfound.errors import LockedError
from mmfound.runs.lock import Lock

FIT = ("fit", "--config", "toy/small")
RUN = Path("runs/toy/small")


def checkpoint(step: int) -> Path:
    return RUN / "checkpoints" / f"step={step:08d}.ckpt"


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(run, folder: Path):
    assert run(*FIT)[0] == 0
    content = bytearray(checkpoint(4).read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint(4).write_bytes(content)
    with pytest.warns(UserWarning, match="step=00000004.ckpt: its contents have changed"):
        code, out, _ = run(*FIT)
    assert code == 0
    assert "going on from runs/toy/small/checkpoints/step=00000002.ckpt" in out
    assert run(*FIT)[1].startswith("already finished")


def test_all_damaged_is_exit_7_with_each_reason(run, folder: Path):
    assert run(*FIT)[0] == 0
    checkpoint(4).write_bytes(b"")
    (RUN / "checkpoints" / "step=00000002.ckpt.manifest.json").unlink()
    code, _, err = run(*FIT)
    assert code == 7
    assert "step=00000004.ckpt: 0 bytes long" in err
    assert "step=00000002.ckpt: its manifest is missing" in err
    assert run("test", "--config", "toy/small")[0] == 7


def test_what_a_killed_save_left_is_swept(run, folder: Path):
    (RUN / "checkpoints").mkdir(parents=True)
    stray = RUN / "checkpoints" / ".step=00000002.ckpt.7.partial"
    stray.touch()
    code, out, _ = run(*FIT)
    assert code == 0
    assert "which was never finished" in out
    assert not stray.exists()


def test_a_folder_in_use_names_its_owner(run, folder: Path):
    lock = Lock(RUN).acquire()
    code, _, err = run(*FIT)
    lock.release()
    assert code == 6
    assert "runs/toy/small is in use by process" in err.splitlines()[0]
    assert run(*FIT)[0] == 0
    assert not (RUN / "run.lock").exists()


def test_an_older_checkpoint_is_no_way_back(run, folder: Path):
    assert run(*FIT)[0] == 0
    code, _, err = run(*FIT, "--trainer.max_steps", "6", "--ckpt_path", str(checkpoint(2)))
    assert code == 2
    assert "older than" in err
    assert run(*FIT, "--ckpt_path", str(checkpoint(2)), "--run_dir", "branch")[0] == 0
    assert Path("branch/checkpoints/step=00000004.ckpt").exists()


def test_a_changed_learning_rate_counts_when_the_run_goes_on(run, folder: Path):
    assert run(*FIT)[0] == 0
    assert (
        run(*FIT, "--trainer.max_steps", "6", "--model.init_args.optim.init_args.optimizer.init_args.lr", "0.5")[0] == 0
    )
    state = torch.load(checkpoint(6), weights_only=True)
    assert [group["lr"] for group in state["optimizer_states"][0]["param_groups"]] == [0.5, 0.5]


def test_another_optimiser_is_refused(run, folder: Path):
    assert run(*FIT)[0] == 0
    freeze = ["--model.init_args.optim.init_args.no_decay", '["weight"]']
    code, _, err = run(*FIT, "--trainer.max_steps", "6", *freeze)
    assert code == 2
    assert "optimiser" in err.splitlines()[0]


def test_another_optimisers_state_is_refused(run, folder: Path):
    assert run(*FIT)[0] == 0
    other = ["--model.init_args.optim.init_args.optimizer", "torch.optim.SGD"]
    code, out, err = run(*FIT, "--trainer.max_steps", "6", *other)
    assert code == 2
    assert "optimizer.class_path: torch.optim.AdamW -> torch.optim.SGD" in out
    assert "the checkpoint's optimiser is AdamW, the recipe's SGD" in err.splitlines()[0]
    assert not (RUN / "config.r1.yaml").exists()  # what was refused is nothing to compare the next recipe with


@pytest.mark.parametrize("source", [RUN, RUN / "checkpoints/step=00000004.ckpt", RUN / "export"])
def test_init_from_begins_with_the_weights_alone(source: Path, run, folder: Path):
    assert run(*FIT)[0] == 0
    name = "--model.init_args.optim.init_args.optimizer.init_args.lr"
    code, out, err = run(*FIT, "--init_from", str(source), "--run_dir", "second", "--trainer.max_steps", "1", name, "0")
    assert code == 0, err
    assert f"beginning with the weights of {source}" in out
    before = torch.load(checkpoint(4), weights_only=True)["state_dict"]
    after = torch.load("second/checkpoints/step=00000001.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_init_from_names_what_does_not_fit(run, folder: Path):
    assert run(*FIT)[0] == 0
    width = ["--model.init_args.pair.init_args.tower.init_args.width", "5"]
    code, _, err = run(*FIT, "--init_from", str(RUN), "--run_dir", "second", *width)
    assert code == 2
    assert "has pair.tower.net.bias as [3], not [5]" in err.splitlines()[0]
    code, _, err = run(*FIT, "--init_from", "nowhere", "--run_dir", "second")
    assert code == 2
    assert "there is no nowhere" in err


def test_the_summary_says_with_which_code_it_ended(run, folder: Path):
    assert run(*FIT)[0] == 0
    assert json.loads((RUN / "summary.json").read_text())["exit_code"] == 0


@pytest.mark.parametrize(("kind", "code"), [("data", 3), ("bug", 1), ("user", 130)])
def test_the_summary_names_what_broke_a_run_off(kind: str, code: int, run, folder: Path):
    assert run(*FIT, "--model", "toy.Fails", "--model.kind", kind)[0] == code
    ended = json.loads((RUN / "summary.json").read_text())
    assert ended["exit_code"] == code
    assert "failed_rank" not in ended  # there is only one


def test_the_summary_names_what_ended_a_start(run, folder: Path):
    assert run(*FIT)[0] == 0
    checkpoint(4).write_bytes(b"")
    checkpoint(2).write_bytes(b"")
    assert run(*FIT)[0] == 7
    ended = json.loads((RUN / "summary.json").read_text())
    assert ended["exit_code"] == 7
    assert ended["exit_reason"].startswith(
        "CheckpointError: no checkpoint in runs/toy/small/checkpoints can be trusted"
    )
    assert ended["steps"] == 4  # of the start before


def test_a_run_whose_lock_was_taken_writes_nothing_more(run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    lost = LockedError("taken over by process 7")
    monkeypatch.setattr(Lock, "lost", lambda lock: lost)
    code, _, err = run(*FIT)
    assert code == 6
    assert err.startswith("error: taken over by process 7")
    assert list((RUN / "checkpoints").glob("*.ckpt")) == []


def test_a_run_killed_after_its_last_step_is_ended_properly(run, folder: Path):
    assert run(*FIT)[0] == 0
    whole = {name: (RUN / name).read_bytes() for name in ("metrics.csv", "export/module.safetensors")}
    metrics = json.loads((RUN / "summary.json").read_text())["metrics"]
    shutil.rmtree(RUN / "export")
    (RUN / "summary.json").write_text('{"exit_reason": "running", "exit_code": null}')
    code, out, err = run(*FIT)
    assert code == 0, err
    assert "already finished" not in out
    assert {name: (RUN / name).read_bytes() for name in whole} == whole
    assert json.loads((RUN / "summary.json").read_text())["exit_reason"] == "max_steps"
    assert json.loads((RUN / "summary.json").read_text())["metrics"] == metrics
    assert "already finished" in run(*FIT)[1]


def test_a_run_of_epochs_killed_before_its_end_is_ended_properly(run, folder: Path):
    epochs = (*FIT, "--trainer.max_steps", "-1", "--trainer.max_epochs", "1")
    assert run(*epochs)[0] == 0
    shutil.rmtree(RUN / "export")
    (RUN / "summary.json").write_text('{"exit_reason": "running", "exit_code": null}')
    assert run(*epochs)[0] == 0
    assert (RUN / "export" / "module.safetensors").exists()
    assert json.loads((RUN / "summary.json").read_text())["exit_reason"] == "max_epochs"
    assert "already finished: the end of its epochs" in run(*epochs)[1]
    assert run(*epochs[:-1], "2")[0] == 0
    assert checkpoint(16).exists()


def test_a_run_that_a_callback_has_stopped_is_finished_until_the_recipe_changes(run, folder: Path):
    stops = {"class_path": "lightning.pytorch.callbacks.EarlyStopping"}
    stops["init_args"] = {"monitor": "val/loss", "patience": 1, "min_delta": 1e9}
    early = (*FIT, "--trainer.max_steps", "50", "--trainer.callbacks", json.dumps([stops]))
    assert run(*early)[0] == 0
    stopped_at = json.loads((RUN / "summary.json").read_text())["steps"]
    assert stopped_at < 50
    code, out, _ = run(*early)
    assert code == 0
    assert f"already finished: a callback has stopped runs/toy/small at step {stopped_at}" in out
    code, out, _ = run(*FIT, "--trainer.max_steps", "50")
    assert code == 0
    assert checkpoint(50).exists()


def test_a_damaged_newer_checkpoint_does_not_cost_the_good_ones(run, folder: Path):
    assert run(*FIT)[0] == 0
    checkpoint(4).write_bytes(b"")
    with pytest.warns(UserWarning, match="0 bytes long"):
        assert run(*FIT, "--trainer.max_steps", "3", "--checkpoints.keep", "1")[0] == 0
    assert checkpoint(3).exists()
    assert (RUN / "checkpoints" / "last.ckpt").readlink() == Path("step=00000003.ckpt")


def test_a_link_stands_for_its_checkpoint(run, folder: Path):
    assert run(*FIT)[0] == 0
    before = (RUN / "metrics.csv").read_text().splitlines()
    last = str(RUN / "checkpoints" / "last.ckpt")
    assert run(*FIT, "--trainer.max_steps", "6", "--ckpt_path", last)[0] == 0
    assert (RUN / "metrics.csv").read_text().splitlines()[: len(before)] == before
