"""Pickles that would run code are found without running it."""

import copyreg
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint import FileSystemWriter, save
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING

from mmfound.errors import CheckpointError, ConfigError
from mmfound.strategies.scan import save_by_value, scan_file, scan_folder


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, call: Any = os.mkdir, argument: Any = "exploded") -> None:
        self.call, self.argument = call, argument

    def __reduce__(self) -> Any:
        return self.call, (self.argument,)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(path: Path, says: str = "could run code") -> None:
    with pytest.raises(ConfigError, match=says):
        scan_file(path)
    assert not Path("exploded").exists()


def test_tensors_and_settings_pass(here: Path):
    state = {
        "weights": OrderedDict(a=torch.ones(2), b=nn.Parameter(torch.ones(2, dtype=torch.bfloat16))),
        "plain": [1, 2.5, None, True, "x", (1,), {2}, torch.Size([3]), torch.float32, Path("x")],
    }
    torch.save(state, here / "fine.pt")
    scan_file(here / "fine.pt")


def test_enumerations_are_saved_so_that_they_pass(here: Path, monkeypatch: pytest.MonkeyPatch):
    def as_python_3_11_2_does(member: Any, protocol: Any) -> Any:
        return getattr, (type(member), member.name)

    monkeypatch.setattr(_MEM_FORMAT_ENCODING, "__reduce_ex__", as_python_3_11_2_does)
    monkeypatch.delitem(copyreg.dispatch_table, _MEM_FORMAT_ENCODING, raising=False)
    state = {"a": _MEM_FORMAT_ENCODING.TORCH_CONTIGUOUS_FORMAT}
    torch.save(state, here / "refused.pt")
    refused(here / "refused.pt", "getattr, which is no tensor")
    save_by_value(_MEM_FORMAT_ENCODING)
    assert b"getattr" not in pickle.dumps(state)
    torch.save(state, here / "fine.pt")
    scan_file(here / "fine.pt")


@pytest.mark.parametrize("where", [lambda bomb: bomb, lambda bomb: {"a": [bomb]}, lambda bomb: {bomb: 1}])
def test_calls_are_found_wherever_they_are(here: Path, where: Any):
    torch.save(where(Bomb()), here / "bad.pt")
    refused(here / "bad.pt")


@pytest.mark.parametrize("call", [eval, exec, __import__, getattr, os.system, torch.load, torch.hub.load, pickle.loads])
def test_only_what_is_listed_may_be_called(here: Path, call: Any):
    torch.save(Bomb(call), here / "bad.pt")
    refused(here / "bad.pt")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_protocol_of_pickle_is_read(here: Path, protocol: int):
    (here / ".metadata").write_bytes(pickle.dumps({"x": Bomb()}, protocol=protocol))
    refused(here / ".metadata")


def test_the_old_format_of_torch_save_is_refused(here: Path):
    torch.save(Bomb(), here / "old.pt", _use_new_zipfile_serialization=False)
    refused(here / "old.pt", "no archive of torch.save")


def test_a_bare_pickle_is_refused(here: Path):
    (here / "bare.pt").write_bytes(pickle.dumps(Bomb()))
    refused(here / "bare.pt", "no archive of torch.save")


def test_torchscript_is_refused(here: Path):
    torch.save({}, here / "two.pt")
    with zipfile.ZipFile(here / "two.pt", "a") as archive:
        archive.writestr("two/constants.pkl", pickle.dumps(Bomb()))
    refused(here / "two.pt", "TorchScript")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["archive/data.pkl", "archive/DATA.PKL"])
def test_what_torch_would_read_is_looked_at(here: Path, name: str):
    """Two files of a name: torch's reader does not care about case, and takes the one it likes."""
    torch.save({}, here / "fine.pt")
    with zipfile.ZipFile(here / "two.pt", "w") as archive:
        archive.writestr(name, pickle.dumps(Bomb(), protocol=2))
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("archive/version", "3")
    with zipfile.ZipFile(here / "swapped.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr(name, pickle.dumps(Bomb(), protocol=2))
        archive.writestr("archive/version", "3")
    for path in (here / "two.pt", here / "swapped.pt"):
        try:
            scan_file(path)
        except (ConfigError, CheckpointError):
            continue
        torch.load(path, weights_only=False)
    assert not Path("exploded").exists()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("place", ["./__0_0.distcp", "x.py", "/tmp/x.distcp"])
def test_parts_elsewhere_are_refused(here: Path, place: str):
    save({"x": torch.ones(4)}, storage_writer=FileSystemWriter(here / "step"), no_dist=True)
    index = here / "step" / ".metadata"
    metadata = pickle.loads(index.read_bytes())
    for info in metadata.storage_data.values():
        info.relative_path = place
    index.write_bytes(pickle.dumps(metadata))
    with pytest.raises(ConfigError, match="could lead to any file"):
        scan_folder(here / "step")


def test_links_and_strange_files_are_refused(here: Path):
    (here / "step").mkdir()
    (here / "elsewhere").mkdir()
    (here / "step" / "checkpoint").symlink_to(here / "elsewhere")
    with pytest.raises(ConfigError, match="is a link"):
        scan_folder(here / "step")
    (here / "step" / "checkpoint").unlink()
    for name in ("latest", "zero_to_fp32.py", "zero_to_torch.py"):
        (here / "step" / name).write_text("DeepSpeed's")
    scan_folder(here / "step")
    (here / "step" / "notes.bin").write_text("x")
    with pytest.raises(ConfigError, match="belongs to no checkpoint"):
        scan_folder(here / "step")


@pytest.mark.parametrize("cut", [0, 3, 40])
def test_a_cut_file_is_damaged_not_hostile(here: Path, cut: int):
    torch.save({"x": torch.ones(100)}, here / "cut.pt")
    (here / "cut.pt").write_bytes((here / "cut.pt").read_bytes()[:cut])
    with pytest.raises((CheckpointError, ConfigError)):
        scan_file(here / "cut.pt")


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_parts_of_a_distributed_checkpoint_are_looked_through(here: Path):
    for name, value in (("fine", {"lr": 0.1}), ("bad", Bomb())):
        save({"x": torch.ones(4), "y": value}, storage_writer=FileSystemWriter(here / name), no_dist=True)
    scan_folder(here / "fine")
    with pytest.raises(ConfigError, match="could run code"):
        scan_folder(here / "bad")
    assert not Path("exploded").exists()
