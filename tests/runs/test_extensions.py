"""Build locks of torch's extensions: which ones nobody holds any more."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmfound.runs import extensions

BUILDER = "import os, sys, time; os.open(sys.argv[1], os.O_CREAT); print('open', flush=True); time.sleep(60)"


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of ten minutes ago, as torch leaves it when it is killed, for a torch that waits for it."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(extensions, "waits_for_files", lambda: True)
    path = tmp_path / "cpu_adam" / "lock"
    path.parent.mkdir()
    path.touch()
    age(path, 600)
    return path


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_a_killed_builds_lock_is_stale_and_is_cleared(lock: Path):
    assert extensions.stale_locks() == [lock]
    (found,) = extensions.locks()
    assert found.builders == []
    assert 599 < found.age_s < 660
    assert extensions.clear_stale_locks() == [lock]
    assert list(lock.parent.iterdir()) == []
    assert extensions.clear_stale_locks() == []


def test_torch_puts_extensions_in_a_folder_of_its_version_by_default(lock: Path, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "base"))
    assert extensions.folder() == Path(sys.prefix) / "torch_extensions"
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    assert extensions.folder() == tmp_path / "cache" / "torch_extensions"
    assert extensions.stale_locks() == []
    deep = extensions.folder() / "py311_cpu" / "cpu_adam" / "lock"
    deep.parent.mkdir(parents=True)
    lock.rename(deep)
    assert extensions.stale_locks() == [deep]


def test_a_living_builders_lock_is_kept_and_its_process_named(lock: Path):
    with subprocess.Popen([sys.executable, "-c", BUILDER, str(lock)], stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        builder.stdout.readline()
        (found,) = extensions.locks()
        assert f"(process {builder.pid})" in found.builders[0]
        assert extensions.clear_stale_locks() == []
        builder.kill()
    assert extensions.stale_locks() == [lock]


def test_a_compiler_that_works_there_keeps_the_lock(lock: Path):
    command = [sys.executable, "-c", "print('there', flush=True); import time; time.sleep(60)"]
    with subprocess.Popen(command, cwd=lock.parent, stdout=subprocess.PIPE) as builder:
        assert builder.stdout is not None
        builder.stdout.readline()
        assert extensions.stale_locks() == []
        builder.kill()


def test_a_young_lock_and_one_beside_fresh_files_are_kept(lock: Path):
    (lock.parent / "build.ninja").touch()
    assert extensions.stale_locks() == []
    age(lock.parent / "build.ninja", 600)
    assert extensions.stale_locks() == [lock]
    age(lock, 10)
    assert extensions.stale_locks() == []


def test_on_a_shared_file_system_another_host_may_still_build(lock: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mmfound.runs.filesystem.kind", lambda folder: "nfs4")
    assert extensions.stale_locks() == []
    age(lock, 1200)
    assert extensions.stale_locks() == [lock]


def test_a_lock_that_is_held_is_kept(lock: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(extensions, "_builders", lambda place: [])  # on another host
    with open(lock, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert extensions.stale_locks() == []
    assert extensions.stale_locks() == [lock]


def test_a_torch_that_does_not_wait_for_files_has_no_stale_ones(lock: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(extensions, "waits_for_files", lambda: False)
    assert extensions.clear_stale_locks() == []
    assert lock.exists()


def test_a_build_that_began_meanwhile_keeps_its_lock(lock: Path):
    age(lock, 0)
    assert not extensions._remove(lock)
    assert lock.exists()


def test_what_is_missing_to_compile_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(extensions, "_NINJA", tmp_path / "ninja")
    missing = extensions.missing_compiler()
    assert missing is not None
    assert "apt-get install g++" in missing
    assert "pip install ninja, or apt-get install ninja-build" in missing
    monkeypatch.setenv("CXX", "clang++-99")
    assert "CXX is 'clang++-99', which is not found" in str(extensions.missing_compiler())


def test_doctor_says_how_to_get_rid_of_it(lock: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    from mmfound.cli.doctor import cluster

    lines = dict(cluster.facts(lock.parent))
    assert lines[
        "build lock"
    ] == f"{lock}, 10 min old: nobody compiles there, and every start that needs it hangs; " + (f"remove it: rm {lock}")
