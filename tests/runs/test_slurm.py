"""When a run asks Slurm to start its job again; `tests/cluster` asks a real one."""

from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from mmfound.runs import slurm

RUNNING = "JobId=12 JobName=a Requeue=1 Restarts=0 BatchFlag=1 JobState=RUNNING Reason=None"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes `scontrol show` answer, in job 12; calling it again gives what was asked for."""
    log = tmp_path / "log"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "12")

    def answer(shown: str = "", code: int = 0, said: str = "") -> list[str]:
        if shown:
            script = f'#!/bin/sh\necho "$@" >> {log}\n[ $1 = show ] && echo "{shown}" && exit\n'
            (tmp_path / "scontrol").write_text(f'{script}echo "{said}" >&2; exit {code}\n')
            (tmp_path / "scontrol").chmod(0o755)
        return log.read_text().splitlines()[1:] if log.exists() else []

    return answer


def test_a_running_batch_job_is_requeued(asked):
    asked(RUNNING)
    assert slurm.requeue() == "Slurm job 12 is requeued and will go on by itself"
    assert asked() == ["requeue 12"]


def test_of_an_array_only_the_own_task_is_requeued(asked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")  # the last task has the number of the array
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    asked(RUNNING)
    slurm.requeue()
    assert asked() == ["requeue 12_3"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("RUNNING", "CANCELLED"), "it is CANCELLED"),
        (("RUNNING", "COMPLETING"), "it is COMPLETING"),
        (("RUNNING", "PENDING"), "it is PENDING"),
        (("Requeue=1", "Requeue=0"), "--no-requeue"),
        (("BatchFlag=1", "BatchFlag=0"), "not submitted with sbatch"),
    ],
)
def test_other_jobs_are_left_alone(change: tuple[str, str], reason: str, asked):
    asked(RUNNING.replace(*change))
    assert reason in slurm.requeue()
    assert asked() == []


def test_a_refusal_is_told_in_one_line(asked):
    asked(RUNNING, 1, "Access denied\nfor job 12")
    said = slurm.requeue()
    assert "`scontrol requeue 12` ended with 1: Access denied for job 12; submit it again to go on" in said
    assert "\n" not in said


def test_a_missing_scontrol_is_named(asked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert "could not be requeued: there is no command scontrol here" in slurm.requeue()


def test_lightning_does_not_requeue(monkeypatch: pytest.MonkeyPatch):
    for name in ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "a")
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    environment = trainer._accelerator_connector.cluster_environment
    assert environment.auto_requeue
    slurm.leave_to_us(trainer)
    assert not environment.auto_requeue
