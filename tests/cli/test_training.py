"""fit, validate, test, predict over a run folder: what is written, resumed, refused."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mmfound.runs import folder as run_folder

FIT = ("fit", "--config", "toy/small")


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_fit_leaves_a_complete_run_folder(run, folder: Path):
    code, out, err = run(*FIT)
    assert code == 0, err
    here = folder / "runs/toy/small"
    summary = json.loads((here / "summary.json").read_text())
    assert summary["steps"] == 4
    assert summary["samples"] == 16
    assert summary["exit_reason"] == "max_steps"
    assert summary["samples_per_second"] > 0
    assert summary["metrics"].keys() >= {"train/loss", "val/loss"}
    assert [row["step"] for row in rows(here) if row["train/loss"]] == ["0", "1", "2", "3"]
    assert [row["step"] for row in rows(here) if row["val/loss"]] == ["1", "3"]
    assert yaml.safe_load((here / "config.yaml").read_text())["trainer"]["max_steps"] == 4
    assert json.loads((here / "env.json").read_text())["packages"]["torch"]
    assert list(here.glob("events.out.tfevents.*"))
    assert (here / "checkpoints/last.ckpt").resolve().name == "step=00000004.ckpt"
    assert "val/loss" in out
    assert "mmfound test --config toy/small" in out
    assert "tensorboard --logdir runs/toy/small" in out


def test_second_start_goes_on_and_says_what_changed(run, folder: Path):
    assert run(*FIT)[0] == 0
    code, out, err = run(*FIT, "--trainer.max_steps", "6")
    assert code == 0, err
    here = folder / "runs/toy/small"
    assert "going on from runs/toy/small/checkpoints/step=00000004.ckpt" in out
    assert "changed since config.yaml: trainer.max_steps: 4 -> 6" in out
    assert yaml.safe_load((here / "config.r1.yaml").read_text())["trainer"]["max_steps"] == 6
    assert json.loads((here / "summary.json").read_text())["steps"] == 6
    assert [row["step"] for row in rows(here) if row["train/loss"]] == ["0", "1", "2", "3", "4", "5"]
    assert [row["step"] for row in rows(here) if row["val/loss"]] == ["1", "3", "5"]
    assert run(*FIT, "--trainer.max_steps", "8")[0] == 0
    assert (here / "config.r2.yaml").is_file()


def test_resumed_run_ends_like_the_unbroken_one(run, folder: Path):
    assert run(*FIT, "--trainer.max_steps", "3", "--run_dir", "halves")[0] == 0
    assert run(*FIT, "--trainer.max_steps", "6", "--run_dir", "halves")[0] == 0
    assert run(*FIT, "--trainer.max_steps", "6", "--run_dir", "whole")[0] == 0
    name = "checkpoints/step=00000006.ckpt"
    halves, whole = (torch.load(folder / run_dir / name, weights_only=True) for run_dir in ("halves", "whole"))
    assert halves["global_step"] == whole["global_step"] == 6
    assert [row["step"] for row in rows(folder / "halves") if row["train/loss"]] == list("012345")
    assert halves["lr_schedulers"] == whole["lr_schedulers"]
    for step in halves["optimizer_states"][0]["state"].values():
        assert step["step"] == 6


def test_rows_after_the_checkpoint_are_cut_when_the_run_goes_on(run, folder: Path):
    assert run(*FIT)[0] == 0
    here = folder / "runs/toy/small"
    (here / "checkpoints/step=00000004.ckpt").unlink()
    code, out, _ = run(*FIT)
    assert code == 0
    assert "step=00000002.ckpt" in out
    assert [row["step"] for row in rows(here) if row["train/loss"]] == ["0", "1", "2", "3"]
    assert [row["step"] for row in rows(here) if row["val/loss"]] == ["1", "3"]


def test_finished_run_names_the_two_ways_on(run, folder: Path):
    assert run(*FIT)[0] == 0
    before = (folder / "runs/toy/small/metrics.csv").read_text()
    code, out, _ = run(*FIT)
    assert code == 0
    assert "already finished" in out
    assert "--trainer.max_steps 8" in out
    assert "--run_dir" in out
    assert (folder / "runs/toy/small/metrics.csv").read_text() == before


def test_same_configuration_is_saved_once(run, folder: Path):
    run(*FIT, "--run_dir", "x", "--trainer.max_epochs", "1")
    assert run(*FIT, "--run_dir", "x", "--trainer.max_epochs", "1")[0] == 0
    assert [path.name for path in (folder / "x").glob("config*")] == ["config.yaml"]


def test_saved_configuration_starts_the_same_run_again(run, folder: Path):
    assert run(*FIT)[0] == 0
    code, out, err = run("fit", "--config", "runs/toy/small/config.yaml", "--trainer.max_steps", "5")
    assert code == 0, err
    assert "going on from runs/toy/small/checkpoints" in out
    (folder / "runs/toy/small").rename(folder / "moved")
    code, out, _ = run("test", "--config", "moved/config.yaml")
    assert code == 0
    assert "moved/checkpoints/step=00000005.ckpt" in out


def test_restart_from_nothing_only_in_an_empty_folder(run):
    assert run(*FIT, "--ckpt_path", "none")[0] == 0
    code, _, err = run(*FIT, "--ckpt_path", "none", "--trainer.max_steps", "9")
    assert code == 2
    assert "--ckpt_path none" in err.splitlines()[0]
    assert run(*FIT, "--ckpt_path", "none", "--run_dir", "another")[0] == 0


@pytest.mark.parametrize("subcommand", ["validate", "test", "predict"])
def test_no_weights_is_refused_before_anything_is_built(subcommand: str, run):
    code, _, err = run(subcommand, "--config", "toy/small", "--model.pair.tower.width", "500")
    assert code == 2
    assert f"no weights to {subcommand}: runs/toy/small has no checkpoint" in err.splitlines()[0]
    assert "mmfound fit --config toy/small" in err.splitlines()[0]


def test_scores_are_of_the_newest_checkpoint_and_join_the_summary(run, folder: Path):
    assert run(*FIT)[0] == 0
    trained = json.loads((folder / "runs/toy/small/summary.json").read_text())
    code, out, _ = run("test", "--config", "toy/small")
    assert code == 0
    assert "test/loss" in out
    assert "step=00000004.ckpt" in out
    summary = json.loads((folder / "runs/toy/small/summary.json").read_text())
    assert summary["metrics"] == {**trained["metrics"], "test/loss": summary["metrics"]["test/loss"]}
    code, out, _ = run("validate", "--config", "toy/small")
    assert code == 0
    assert json.loads((folder / "runs/toy/small/summary.json").read_text())["metrics"]["val/loss"] == pytest.approx(
        trained["metrics"]["val/loss"], rel=1e-6
    )
    assert run("predict", "--config", "toy/small")[0] == 0
    assert load_file(folder / "runs/toy/small/predictions/rank_0.safetensors")["prediction"].shape == (32, 3)


def test_named_checkpoint_is_used_and_a_missing_one_refused(run):
    assert run(*FIT)[0] == 0
    older = "runs/toy/small/checkpoints/step=00000002.ckpt"
    code, out, _ = run("test", "--config", "toy/small", "--ckpt_path", older)
    assert code == 0
    assert older in out
    code, _, err = run("test", "--config", "toy/small", "--ckpt_path", "nowhere.ckpt")
    assert code == 2
    assert "no checkpoint 'nowhere.ckpt'" in err.splitlines()[0]


def test_checkpoint_never_overrides_the_recipe(run, folder: Path):
    assert run(*FIT)[0] == 0
    path = folder / "runs/toy/small/checkpoints/step=00000004.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    path = folder / "changed.ckpt"
    torch.save({**checkpoint, "hyper_parameters": {"pair": {"tower": {"class_path": "toy.Tower"}}}}, path)
    code, _, _ = run(*FIT, "--trainer.max_steps", "5", "--ckpt_path", str(path))
    assert code == 0
    saved = run_folder.newest_text(folder / "runs/toy/small", "config.yaml")
    assert saved is not None
    assert yaml.safe_load(saved.read_text())["model"]["init_args"]["pair"]["init_args"]["tower"]["class_path"] == (
        "toy.WideTower"
    )


def test_checkpoint_of_another_model_is_refused(run):
    assert run(*FIT)[0] == 0
    code, _, err = run(*FIT, "--trainer.max_steps", "9", "--model.pair.tower.width", "7")
    assert code == 2
    assert "does not fit this recipe's model" in err.splitlines()[0]
    assert "size mismatch" in err.splitlines()[0]
    assert "Traceback" not in err


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


def test_checkpoint_with_code_in_it_is_refused_and_not_run(run, folder: Path):
    torch.save({"state_dict": {}, "x": Payload()}, folder / "foreign.ckpt")
    code, out, err = run("test", "--config", "toy/small", "--ckpt_path", "foreign.ckpt")
    assert code == 2
    assert "executed" not in out
    assert "foreign.ckpt holds more than tensors" in err.splitlines()[0]


def test_full_disk_is_refused_at_the_start(run, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_folder, "disk_free", lambda path: 10 * 2**20)
    code, _, err = run(*FIT)
    assert code == 8
    assert "10 MB free" in err.splitlines()[0]
    assert not (folder / "runs").exists()


def test_a_failed_run_says_why_in_its_summary(run, folder: Path, recipe):
    assert run("fit", "--config", recipe("toy.Toy\n", "toy.Fails\n"))[0] == 3
    summary = json.loads((folder / "runs/changed/summary.json").read_text())
    assert summary["exit_reason"] == "DataError: no picture in 3.tar"
    assert summary["steps"] == 0


def test_recipes_own_callbacks_and_logger_are_kept(run, folder: Path, recipe):
    own = "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.LambdaCallback}], logger: false, "
    assert run("fit", "--config", recipe("trainer: {", own))[0] == 0
    here = folder / "runs/changed"
    assert not (here / "metrics.csv").exists()
    assert json.loads((here / "summary.json").read_text())["steps"] == 4
    saved = yaml.safe_load((here / "config.yaml").read_text())
    assert saved["trainer"]["callbacks"][0]["class_path"] == "lightning.pytorch.callbacks.LambdaCallback"
