"""Interrupted and resumed in fresh processes, a run ends like one that was never interrupted: by bytes."""

from pathlib import Path

import pytest

from tests.resume import drill

TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that is never interrupted, with one worker."""
    run = tmp_path_factory.mktemp("whole") / "run"
    done = drill.fit(run)
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.parametrize(
    ("interrupt", "code", "workers"),
    [
        ("before_step:7:SIGKILL", -9, (2, 0)),  # in the middle of an epoch
        ("in_step:8:SIGTERM", 4, (0, 1)),
        ("in_step:7:SIGUSR1", 4, (1, 1)),  # the step that a validation follows
        ("before_validation:4:SIGTERM", 4, (1, 0)),
        ("in_validation:8:SIGTERM", 4, (1, 2)),
        ("in_validation:8:SIGKILL", -9, (0, 0)),
        ("after_validation:12:SIGKILL", -9, (1, 1)),
        ("in_step:5:SIGINT", 130, (1, 1)),
    ],
)
def test_a_resumed_run_is_the_same_run(
    interrupt: str, code: int, workers: tuple[int, int], whole: Path, tmp_path: Path
):
    method = ("--data.start_method", "forkserver" if interrupt == "in_step:8:SIGTERM" else "fork")
    first = drill.fit(tmp_path, "--data.workers", str(workers[0]), interrupt=interrupt)
    assert first.returncode == code, first.stderr
    second = drill.fit(tmp_path, "--data.workers", str(workers[1]), *method)
    assert second.returncode == 0, second.stderr
    assert "going on from" in second.stdout
    assert drill.differences(tmp_path, whole) == []


@pytest.mark.parametrize("sabotage", ["seed", "position", "average"])
def test_the_comparison_sees_what_is_left_out(sabotage: str, whole: Path, tmp_path: Path):
    assert drill.fit(tmp_path, interrupt="in_step:5:SIGTERM").returncode == 4
    assert drill.fit(tmp_path, sabotage=sabotage).returncode == 0
    assert drill.differences(tmp_path, whole)


def test_an_accumulation_window_is_redone(tmp_path: Path):
    overlays = ("accumulate.yaml",)
    assert drill.fit(tmp_path / "whole", overlays=overlays).returncode == 0
    killed = drill.fit(tmp_path / "run", overlays=overlays, interrupt="in_window:8:SIGKILL")
    assert killed.returncode == -9
    asked = drill.fit(tmp_path / "run", overlays=overlays, interrupt="in_window:10:SIGTERM")
    assert asked.returncode == 4, asked.stderr
    at_epochs_end = drill.fit(tmp_path / "run", overlays=overlays, interrupt="in_validation:12:SIGTERM")
    assert at_epochs_end.returncode == 4, at_epochs_end.stderr
    assert drill.fit(tmp_path / "run", overlays=overlays).returncode == 0
    assert drill.differences(tmp_path / "run", tmp_path / "whole") == []
    # With other micro-batches, on two ranks, the samples of a step and the steps of validations stay the same.
    assert drill.fit(tmp_path / "other", overlays=overlays, interrupt="in_step:5:SIGTERM").returncode == 4
    layout = ("--data.micro_batch_size", "2")
    again = drill.fit(tmp_path / "other", *layout, overlays=overlays, interrupt="in_step:9:SIGTERM")
    assert again.returncode == 4, again.stderr
    assert drill.fit(tmp_path / "other", *TWO, overlays=overlays).returncode == 0
    for name in ("train/lr", "train/samples", "val/loss"):
        one, other = ([row["step"] for row in drill.rows(tmp_path / run) if row[name]] for run in ("other", "whole"))
        assert one == other, name
    batches = {line["position"]: line["keys"] for line in drill.record(tmp_path / "whole", 0)}
    last = drill.record(tmp_path / "other", 0)[-1], drill.record(tmp_path / "other", 1)[-1]
    assert [key for line in last for key in line["keys"]] == batches[220] + batches[224]


def test_a_run_of_epochs_goes_on_with_the_next_samples(tmp_path: Path):
    overlays = ("accumulate.yaml",)
    for epochs in ("1", "3"):
        done = drill.fit(tmp_path, "--trainer.max_steps", "-1", "--trainer.max_epochs", epochs, overlays=overlays)
        assert done.returncode == 0, done.stderr
    positions = [line["position"] for line in drill.record(tmp_path, 0)]
    assert positions == list(range(4, 3 * 48 + 1, 4))


def test_two_ranks_stop_together_and_go_on(tmp_path: Path):
    assert drill.fit(tmp_path / "whole", *TWO).returncode == 0
    stopped = drill.fit(tmp_path / "run", *TWO, interrupt="in_step:6:SIGTERM:1")
    assert stopped.returncode == 4, stopped.stderr
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "mmfound")
    masked = drill.fit(tmp_path / "run", *TWO, interrupt="in_validation:8:SIGUSR1:0", launch=torchrun)
    assert masked.returncode == 1  # torchrun's own
    assert drill.summary(tmp_path / "run")["exit_code"] == 4
    assert drill.fit(tmp_path / "run", *TWO).returncode == 0
    assert drill.differences(tmp_path / "run", tmp_path / "whole", ranks=2) == []
