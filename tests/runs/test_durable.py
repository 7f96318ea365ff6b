"""Files that are whole or absent, and proof of it."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from mmfound.errors import CheckpointError, ConfigError, DiskFullError
from mmfound.runs import durable
from mmfound.runs.checkpoint_io import DurableIO, snapshot
from mmfound.runs.saved import newest_good


def write(path: Path, content: bytes = b"0123456789") -> Path:
    path.parent.mkdir(exist_ok=True)
    durable.write(path, lambda file: file.write(content), {"step": 1}, lambda: None)
    return path


def test_a_file_comes_with_its_proof_and_nothing_else(tmp_path: Path):
    path = write(tmp_path / "a.ckpt")
    assert durable.damage(path) is None
    assert durable.manifest(path)["bytes"] == 10
    assert durable.manifest(path)["step"] == 1
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.ckpt", "a.ckpt.manifest.json"]


@pytest.mark.parametrize("length", range(10))
def test_every_truncation_is_seen(length: int, tmp_path: Path):
    path = write(tmp_path / "a.ckpt")
    path.write_bytes(path.read_bytes()[:length])
    assert durable.damage(path) == f"{length} bytes long instead of 10"


@pytest.mark.parametrize("bit", range(0, 80, 7))
def test_every_flipped_bit_is_seen(bit: int, tmp_path: Path):
    path = write(tmp_path / "a.ckpt")
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    assert "SHA-256" in str(durable.damage(path))


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_file_without_a_readable_manifest_is_not_trusted(content: bytes | None, tmp_path: Path):
    path = write(tmp_path / "a.ckpt")
    manifest = tmp_path / "a.ckpt.manifest.json"
    manifest.unlink() if content is None else manifest.write_bytes(content)
    assert "manifest" in str(durable.damage(path))


def test_a_full_disk_says_so_and_leaves_the_old_file(tmp_path: Path):
    path = write(tmp_path / "a.ckpt")

    def full(file: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskFullError, match=r"a\.ckpt"):
        durable.write(path, full, {}, lambda: None)
    assert durable.damage(path) is None
    assert len(list(tmp_path.iterdir())) == 2


def test_a_really_full_disk_is_told_from_torchs_error(tmp_path: Path):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")

    def fill(file: durable.Hashing) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            file._file = full  # what a disk that fills up does
            torch.save({"x": torch.zeros(10_000)}, file)

    with pytest.raises(DiskFullError, match="No space left"):
        durable.write(tmp_path / "a.ckpt", fill, {}, lambda: None)
    assert list(tmp_path.iterdir()) == []


def test_sweeping_takes_only_what_kills_leave(tmp_path: Path):
    path = write(tmp_path / "a.ckpt")
    (tmp_path / ".b.ckpt.1.partial").touch()
    (tmp_path / "c.ckpt.manifest.json").touch()
    assert len(durable.sweep(tmp_path)) == 2
    assert durable.damage(path) is None


@pytest.mark.parametrize("moment", range(4))
def test_a_kill_while_a_file_is_replaced_leaves_one_of_the_two(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write(tmp_path / "a.ckpt", b"old")
    replace, calls = os.replace, []

    def killed(*names: Any) -> None:
        calls.append(names)
        if len(calls) > moment:
            raise KeyboardInterrupt  # `finally` removes partial files, as `sweep` would
        replace(*names)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        if moment < 3:
            with pytest.raises(KeyboardInterrupt):
                write(path, b"new")
        else:
            write(path, b"new")
    durable.sweep(tmp_path)
    assert durable.damage(path) is None
    assert path.read_bytes() == (b"old" if moment < 3 else b"new")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.ckpt", "a.ckpt.manifest.json"]


def test_the_newest_good_one_is_taken_and_the_damaged_are_named(tmp_path: Path):
    for step in (1, 2, 3):
        write(tmp_path / "checkpoints" / f"step={step:08d}.ckpt")
    (tmp_path / "checkpoints" / "step=00000003.ckpt").write_bytes(b"012345678x")
    path, damaged = newest_good(tmp_path)
    assert path == tmp_path / "checkpoints" / "step=00000002.ckpt"
    assert len(damaged) == 1
    assert damaged[0].startswith("step=00000003.ckpt: its contents have changed")
    for step in (1, 2):
        (tmp_path / "checkpoints" / f"step={step:08d}.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="00000003.*\n.*00000002.ckpt: 0 bytes"):
        newest_good(tmp_path)


def test_a_save_does_not_see_what_training_does_next(tmp_path: Path):
    io, weight = DurableIO(), torch.zeros(1000)
    io.save_checkpoint({"state_dict": {"w": weight}}, tmp_path / "step=00000001.ckpt")
    weight.fill_(1)
    assert not (tmp_path / "step=00000001.ckpt").exists()  # its name comes with `publish`
    io.settle()
    assert io.error is None
    assert float(io.load_checkpoint(tmp_path / "step=00000001.ckpt")["state_dict"]["w"].sum()) == 0
    io.save_checkpoint({"state_dict": {"w": weight}}, tmp_path / "step=00000002.ckpt")
    io.teardown()  # training broke off before it was published
    assert not (tmp_path / "step=00000002.ckpt").exists()
    assert not list(tmp_path.glob(".*"))


def test_no_room_is_found_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("mmfound.runs.checkpoint_io.shutil.disk_usage", lambda path: usage)
    io = DurableIO()
    for _ in range(2):  # nothing is written after an error
        io.save_checkpoint({"w": torch.zeros(1 << 20)}, tmp_path / "step=00000001.ckpt")
        io.settle()
        assert isinstance(io.error, DiskFullError)
        assert "takes 4 MB and 1 MB are free" in str(io.error)
    assert list(tmp_path.iterdir()) == []


def test_what_the_writing_thread_meets_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*args: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(durable.Hashing, "flush", broken)
    io = DurableIO()
    io.save_checkpoint({"w": torch.zeros(1)}, tmp_path / "step=00000001.ckpt")
    io.settle()
    assert isinstance(io.error, OSError)
    assert list(tmp_path.iterdir()) == []


def test_shared_tensors_stay_shared():
    weight = torch.zeros(3)
    copied, size = snapshot({"a": weight, "b": [weight, (weight[:2],)]})
    assert copied["a"] is copied["b"][0]
    assert size == 3 * 4 + 2 * 4


class Gadget:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path):
    torch.save({"state_dict": {}, "extra": Gadget(tmp_path / "made")}, tmp_path / "x.ckpt")
    with pytest.raises(ConfigError, match=r"x\.ckpt holds more than tensors"):
        DurableIO().load_checkpoint(tmp_path / "x.ckpt")
    assert not (tmp_path / "made").exists()


def test_a_file_that_is_cut_short_is_a_users_error(tmp_path: Path):
    torch.save({"w": torch.zeros(100)}, tmp_path / "x.ckpt")
    (tmp_path / "x.ckpt").write_bytes((tmp_path / "x.ckpt").read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"x\.ckpt cannot be read"):
        DurableIO().load_checkpoint(tmp_path / "x.ckpt")
