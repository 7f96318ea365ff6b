"""One process per run folder; dead owners do not count."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mmfound.errors import LockedError
from mmfound.runs.lock import NAME, Lock, read


def owned_by(run: Path, **changes: Any) -> Path:
    """A lock of an owner who differs from this process in `changes`."""
    lock = Lock(run).acquire()
    owner = read(lock.path)
    lock.release()
    (run / NAME).write_text(json.dumps({**owner, **changes}))
    return run / NAME


def test_the_owner_is_named_and_the_lock_given_back(tmp_path: Path):
    lock = Lock(tmp_path / "run").acquire()
    with pytest.raises(LockedError, match=rf"in use by process {os.getpid()} on .* since .*--run_dir"):
        Lock(tmp_path / "run").acquire()
    lock.release()
    Lock(tmp_path / "run").acquire().release()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_process_that_has_ended_is_no_owner(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    owned_by(tmp_path, pid=int(done.stdout), started="1")
    Lock(tmp_path).acquire().release()


def test_a_number_that_another_process_has_now_is_no_owner(tmp_path: Path):
    owned_by(tmp_path, started="1")
    Lock(tmp_path).acquire().release()


def test_another_host_counts_until_it_has_been_silent(tmp_path: Path):
    path = owned_by(tmp_path, host="elsewhere", pid=1)
    with pytest.raises(LockedError, match="elsewhere"):
        Lock(tmp_path).acquire()
    silent = time.time() - 200
    os.utime(path, (silent, silent))
    Lock(tmp_path).acquire().release()


@pytest.mark.parametrize(("name", "launcher"), [("SLURM_JOB_ID", "SLURM"), ("TORCHELASTIC_RUN_ID", "TORCHELASTIC")])
def test_an_earlier_start_of_the_same_job_is_no_owner(
    name: str, launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, "7")
    for host in ("elsewhere", os.uname().nodename):  # where it may linger for a while
        monkeypatch.setenv(f"{launcher}_RESTART_COUNT", "0")
        owned_by(tmp_path, host=host)
        with pytest.raises(LockedError):  # another step of the job, which may well live
            Lock(tmp_path).acquire()
        monkeypatch.setenv(f"{launcher}_RESTART_COUNT", "1")
        Lock(tmp_path).acquire().release()
    owned_by(tmp_path, host="elsewhere", job="8", restarts=[0, 0])
    with pytest.raises(LockedError):
        Lock(tmp_path).acquire()


def test_torchrun_without_a_name_tells_nothing_of_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    owned_by(tmp_path, host="elsewhere")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(LockedError):
        Lock(tmp_path).acquire()


def test_an_owner_from_before_this_host_was_started_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = owned_by(tmp_path, boot="another")
    with pytest.raises(LockedError):  # another host of this name, which lives
        Lock(tmp_path).acquire()
    minute_ago = time.time() - 60
    os.utime(path, (minute_ago, minute_ago))
    monkeypatch.setattr("mmfound.runs.lock._uptime_s", lambda: 30.0)
    Lock(tmp_path).acquire().release()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_lock_is_taken_over(content: str, tmp_path: Path):
    (tmp_path / NAME).write_text(content)
    Lock(tmp_path).acquire().release()


def test_releasing_leaves_the_lock_of_another(tmp_path: Path):
    lock = Lock(tmp_path).acquire()
    (tmp_path / NAME).write_text(json.dumps({**read(lock.path), "pid": 1}))
    lock.release()
    assert (tmp_path / NAME).exists()


def test_an_owner_that_stood_still_notices_that_its_lock_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lock = Lock(tmp_path).acquire()
    assert lock.lost() is None
    other = read(lock.path) | {"host": "elsewhere", "pid": 7}
    lock.path.write_text(json.dumps(other))
    assert lock.lost() is None  # it was ours less than three minutes ago
    monkeypatch.setattr(lock, "_seen_at", time.monotonic() - 200)
    assert "taken over by process 7 on elsewhere" in str(lock.lost())
    lock.release()
    assert read(lock.path) == other


def test_a_lock_that_is_away_for_a_moment_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lock = Lock(tmp_path).acquire()
    lock.path.unlink()
    monkeypatch.setattr(lock, "_seen_at", time.monotonic() - 200)
    assert lock.lost() is None
    lock.release()
