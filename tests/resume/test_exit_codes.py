"""Every exit code on two ranks, under Lightning's launcher and under torchrun, which turns all but 0 into 1.

Code 0, and 4 under both, are in `test_exact_resume`; those of one rank in `tests/cli`.
"""

from pathlib import Path

import pytest

from mmfound.runs import durable, saved
from mmfound.runs.lock import Lock
from tests.resume import drill

TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "mmfound")
LAUNCHERS = pytest.mark.parametrize("launch", [("-m", "mmfound"), TORCHRUN], ids=["lightning", "torchrun"])

ENDINGS = [
    ("in_step:3:bug", 1, "a bug"),
    ("before_step:3:bad_data", 3, "error: no picture in 3.tar"),
    ("in_step:3:full_disk", 8, "error: no room to write"),
    ("in_step:3:SIGINT:1", 130, "error: interrupted from the keyboard; saved"),
]


def masked(code: int, launch: tuple[str, ...]) -> int:
    return 1 if launch == TORCHRUN else code


@LAUNCHERS
@pytest.mark.parametrize(("what", "code", "message"), ENDINGS)
def test_all_ranks_end_with_the_code_of_what_happened(
    what: str, code: int, message: str, launch: tuple[str, ...], tmp_path: Path
):
    done = drill.fit(tmp_path, *TWO, "--checkpoints.every_n_steps", "1", interrupt=what, launch=launch)
    assert done.returncode == masked(code, launch), done.stderr
    assert message in done.stderr
    assert drill.summary(tmp_path)["exit_code"] == code
    newest = saved.newest(tmp_path)  # what was saved before stays, even if it had no name yet
    assert newest is not None
    assert durable.damage(newest) is None
    assert (saved.step_of(newest) or 0) >= (2 if code == 8 else 3)


@pytest.mark.parametrize(("what", "code"), [("before_step:3:bad_data", 3), ("in_step:3:SIGTERM", 4)])
def test_one_rank_under_torchrun(what: str, code: int, tmp_path: Path):
    done = drill.fit(tmp_path, interrupt=what, launch=["1" if word == "2" else word for word in TORCHRUN])
    assert done.returncode == 1, done.stderr
    assert drill.summary(tmp_path)["exit_code"] == code


@LAUNCHERS
@pytest.mark.parametrize(("place", "rank"), [("in_step:3", 0), ("setup:0", 1)])
def test_one_rank_that_fails_by_itself_takes_the_others_along(
    place: str, rank: int, launch: tuple[str, ...], tmp_path: Path
):
    done = drill.fit(tmp_path, *TWO, interrupt=f"{place}:bad_data:{rank}", launch=launch)
    assert done.returncode == masked(3, launch), done.stderr
    assert "error: no picture in 3.tar" in done.stderr
    ended = drill.summary(tmp_path)
    assert (ended["exit_code"], ended["failed_rank"]) == (3, rank)
    assert ended["exit_reason"] == "DataError: no picture in 3.tar"


def test_a_rank_that_is_killed_is_named(tmp_path: Path):
    done = drill.fit(tmp_path, *TWO, interrupt="in_step:3:SIGKILL:1")
    assert done.returncode == 1, done.stderr
    assert "error: rank 1 has failed: was killed by SIGKILL" in done.stderr
    assert drill.summary(tmp_path)["failed_rank"] == 1


@LAUNCHERS
def test_a_divergence_ends_both(launch: tuple[str, ...], tmp_path: Path):
    done = drill.fit(tmp_path, *TWO, overlays=["poison.yaml"], launch=launch)
    assert done.returncode == masked(5, launch), done.stderr
    assert drill.summary(tmp_path)["exit_code"] == 5


@LAUNCHERS
def test_what_ends_a_start_is_in_the_summary_too(launch: tuple[str, ...], tmp_path: Path):
    done = drill.fit(tmp_path, *TWO, "--data.global_batch_size", "17", launch=launch)
    assert done.returncode == masked(2, launch), done.stderr
    assert "which 2 processes cannot share" in done.stderr
    assert drill.summary(tmp_path)["exit_code"] == 2
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step=00000001.ckpt").touch()
    done = drill.fit(tmp_path, *TWO, launch=launch)
    assert done.returncode == masked(7, launch), done.stderr
    assert drill.summary(tmp_path)["exit_code"] == 7


@LAUNCHERS
def test_a_folder_in_use_is_left_alone(launch: tuple[str, ...], tmp_path: Path):
    lock = Lock(tmp_path).acquire()
    done = drill.fit(tmp_path, *TWO, launch=launch)
    lock.release()
    assert done.returncode == masked(6, launch), done.stderr
    assert "is in use by process" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_torchrun_starts_again_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As docs/cluster.md says, with the first rank killed, which owns the folder."""
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    assert drill.fit(tmp_path / "whole", *TWO).returncode == 0
    launch = (*TORCHRUN[:-2], "--max-restarts", "2", *TORCHRUN[-2:])
    done = drill.fit(tmp_path / "run", *TWO, interrupt="in_step:7:SIGKILL:0", launch=launch)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("going on from") == 1
    assert drill.differences(tmp_path / "run", tmp_path / "whole", ranks=2) == []
