"""What a folder's file system is and can do."""

import os
from pathlib import Path

import pytest

from mmfound.runs import filesystem


def test_a_local_disk_can_do_everything_and_nothing_is_left_behind(tmp_path: Path):
    found = filesystem.probe(tmp_path)
    assert (found.rename, found.sync, found.lock) == (None, None, None)
    assert not found.coarse_times
    assert abs(found.ahead_s) < 0.1
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_work_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert filesystem.probe(tmp_path).link == "Operation not permitted"


def test_the_type_is_that_of_the_nearest_mount():
    assert filesystem.kind(Path("/proc/self")) == "proc"
    assert filesystem.kind(Path("/")) not in ("proc", "unknown")


@pytest.mark.parametrize(("kind", "shared"), [("nfs4", True), ("lustre", True), ("fuse.s3fs", True), ("ext4", False)])
def test_hosts_share_network_file_systems(kind: str, shared: bool):
    assert filesystem.is_shared(kind) == shared


def test_the_clock_of_a_folder_is_near(tmp_path: Path):
    (tmp_path / "file").touch()
    assert abs(filesystem.now(tmp_path) - (tmp_path / "file").stat().st_mtime) < 1
    assert filesystem.now(tmp_path / "nowhere") > 0
