"""The job files of docs/cluster on a real Slurm: signals, cancelled jobs, nodes that fail."""

import time
from pathlib import Path

import pytest

from tests.cluster.loopback import Slurm
from tests.resume import drill

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
FILES = drill.HERE.parents[1] / "docs" / "cluster"
OF_LOOPBACK = ("--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=1", "--cpus-per-task=1")
LINGERS = "before_step:7:linger"


@pytest.fixture
def start(slurm: Slurm, tmp_path: Path):
    """Submits a run of two ranks on two nodes, and waits until it lingers before its eighth step; the job."""

    def submit(*options: str, file: str = "nodes.sbatch", interrupt: str = LINGERS) -> str:
        env = drill.environment(interrupt)
        recipe = drill.arguments(tmp_path, ["--trainer.strategy", "ddp", "--data.workers", "0"])[1:]
        paths = {name: env[name] for name in ("DRILL", "PYTHONPATH", "OMP_NUM_THREADS")}
        job = slurm.submit(*OF_LOOPBACK, *options, FILES / file, *recipe, **paths)
        record = tmp_path / "record.1.jsonl"
        deadline = time.monotonic() + 120
        while not record.exists() or len(drill.record(tmp_path, 1)) < 7:
            assert time.monotonic() < deadline, slurm.printed(job)
            time.sleep(0.1)
        return job

    return submit


def test_a_signal_saves_and_requeues_once(start, slurm: Slurm, whole: Path, tmp_path: Path):
    job = start()
    slurm("scancel", "--signal=USR1", job)
    slurm.start_now(job)
    assert drill.summary(tmp_path)["exit_code"] == 4
    facts = slurm.wait(job, "COMPLETED", "FAILED")
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), slurm.printed(job)
    assert slurm.printed(job).count(f"Slurm job {job} is requeued") == 1
    assert drill.differences(tmp_path, whole, ranks=2) == []


@pytest.mark.parametrize("node", ["n1", pytest.param("n2", marks=pytest.mark.slow)])
def test_a_run_goes_on_after_its_node_has_failed(node: str, start, slurm: Slurm, whole: Path, tmp_path: Path):
    job = start()
    slurm.fail(node)
    slurm.start_now(job)
    facts = slurm.wait(job, "COMPLETED", "FAILED")
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), slurm.printed(job)
    assert "is requeued" not in slurm.printed(job)
    slurm.mend(node)
    assert drill.differences(tmp_path, whole, ranks=2) == []


def test_a_cancelled_job_saves_and_stays_cancelled(start, slurm: Slurm, tmp_path: Path):
    job = start()
    slurm("scancel", job)
    facts = slurm.wait(job, "CANCELLED", "PENDING")  # where it would be had it been requeued
    assert (facts["JobState"], facts["Restarts"]) == ("CANCELLED", "0"), slurm.printed(job)
    assert f"Slurm job {job} is not requeued" in slurm.printed(job)
    assert drill.summary(tmp_path)["exit_code"] == 4


def test_a_job_that_must_not_be_requeued_ends_with_its_code(start, slurm: Slurm):
    job = start("--no-requeue")
    slurm("scancel", "--signal=USR1", job)
    facts = slurm.wait(job, "FAILED", "PENDING")
    assert (facts["JobState"], facts["ExitCode"]) == ("FAILED", "4:0"), slurm.printed(job)
    assert "it was submitted with --no-requeue" in slurm.printed(job)


@pytest.mark.slow
def test_a_job_that_makes_room_for_another_is_requeued_once(start, slurm: Slurm, whole: Path, tmp_path: Path):
    job = start()
    urgent = slurm.submit("--partition=urgent", "--nodes=2", "--exclusive", "--wrap=sleep 1")
    slurm.start_now(job)
    slurm.wait(urgent, "COMPLETED")
    facts = slurm.wait(job, "COMPLETED", "FAILED")
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), slurm.printed(job)
    assert "is not requeued" in slurm.printed(job)  # by the run: Slurm has done so
    assert drill.differences(tmp_path, whole, ranks=2) == []


def test_torchrun_starts_a_dead_rank_again(start, slurm: Slurm, whole: Path, tmp_path: Path):
    job = start(file="torchrun.sbatch", interrupt="in_step:7:SIGKILL:1")
    facts = slurm.wait(job, "COMPLETED", "FAILED")
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "0"), slurm.printed(job)
    assert drill.differences(tmp_path, whole, ranks=2) == []


@pytest.mark.slow
def test_torchrun_passes_the_signal_on(start, slurm: Slurm, whole: Path, tmp_path: Path):
    job = start(file="torchrun.sbatch")
    slurm("scancel", "--signal=USR1", job)
    slurm.start_now(job)
    facts = slurm.wait(job, "COMPLETED", "FAILED")
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), slurm.printed(job)
    assert slurm.printed(job).count(f"Slurm job {job} is requeued") == 1
    assert drill.differences(tmp_path, whole, ranks=2) == []
