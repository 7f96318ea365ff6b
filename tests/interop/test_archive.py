"""Foreign pickles: tensors come out, and nothing that they name is called."""

import builtins
import os
import pickle
import posix
import struct
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmfound.errors import ConfigError, DataError
from mmfound.interop.archive import Inert, read_tensors

CALLS = [eval, exec, __import__, getattr, os.system, os.mkdir, posix.system, subprocess.Popen, pickle.loads]
CALLS += [torch.load, torch.jit.load, torch.hub.load, builtins.setattr, nn.Linear]


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, call: Any = os.mkdir, argument: Any = "exploded") -> None:
        self.call, self.argument = call, argument

    def __reduce__(self) -> Any:
        return self.call, (self.argument,)


class State:
    """Explodes in its state: BUILD."""

    def __setstate__(self, state: Any) -> None:
        os.mkdir("exploded")

    def __getstate__(self) -> Any:
        return {"weight": torch.ones(2)}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def unharmed() -> None:
    assert not Path("exploded").exists()


def state() -> dict[str, torch.Tensor]:
    shared = torch.arange(24, dtype=torch.float16)
    return {
        "transposed": torch.randn(3, 4).T,
        "half": shared[:12].view(3, 4),
        "later": shared[20:],
        "bits": torch.tensor([True, False]),
        "bf16": torch.randn(2, 2, dtype=torch.bfloat16),
        "number": torch.tensor(7),
        "none": torch.empty(0, 3),
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_equal_those_that_were_saved(zipped: bool):
    saved = state()
    torch.save({"state_dict": saved, "epoch": 3}, "x.pt", _use_new_zipfile_serialization=zipped)
    torch.testing.assert_close(read_tensors(Path("x.pt")), saved, rtol=0, atol=0)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_nothing_is_called_and_tensors_are_read_all_the_same(call: Any, zipped: bool):
    torch.save({"weight": torch.ones(2), "bad": [Bomb(call)]}, "x.pt", _use_new_zipfile_serialization=zipped)
    assert torch.equal(read_tensors(Path("x.pt"))["weight"], torch.ones(2))
    unharmed()


@pytest.mark.parametrize("zipped", [True, False])
def test_the_state_of_unknown_classes_is_held_not_set(zipped: bool):
    torch.save({"a": State(), "weight": torch.ones(2)}, "x.pt", _use_new_zipfile_serialization=zipped)
    assert list(read_tensors(Path("x.pt"))) == ["a.weight", "weight"]
    unharmed()


def test_the_gadgets_would_explode():
    """Otherwise the tests above could not fail."""
    torch.save({"a": State(), "bad": Bomb()}, "x.pt")
    with pytest.raises(FileExistsError):
        torch.load("x.pt", weights_only=False)
    assert Path("exploded").exists()


def archive(pickled: bytes, path: str = "x.pt", **records: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in {"data.pkl": pickled, "version": b"3", **records}.items():
            file.writestr(f"x/{name}", content)
    return Path(path)


# As a TorchScript archive has it: a class of its own, made without a call, whose state comes after.
MKDIR = b"cos\nmkdir\n(X\x08\x00\x00\x00explodedtR"
SCRIPTED = b"\x80\x02c__torch__.clip Model\n"


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02" + MKDIR + b".",
        b"\x80\x02(X\x08\x00\x00\x00explodedios\nmkdir\n.",  # INST
        b"\x80\x02(cos\nmkdir\nX\x08\x00\x00\x00explodedo.",  # OBJ
        b"\x80\x02c__builtin__\neval\n(X\x14\x00\x00\x00__import__('os').abctR.",
        b"\x80\x02ccollections\nOrderedDict\n}X\x07\x00\x00\x00__new__" + MKDIR + b"sb.",  # BUILD on a class
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x08\x00\x00\x00__code__" + MKDIR + b"s\x86b.",
        b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c\x08exploded\x85R.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x08builtins\x8c\x0egetattr.mkdir\x93\x8c\x08exploded\x85R.",
        b"\x80\x02cmmfound.interop.archive\nread_tensors\nX\x04\x00\x00\x00x.pt\x85R.",
    ],
)
def test_hand_made_pickles_are_harmless(pickled: bytes):
    with pytest.raises((ConfigError, DataError)):
        read_tensors(archive(pickled))
    unharmed()
    assert OrderedDict.__new__ is not None
    assert Inert.state is None


def test_a_wrong_number_does_not_fill_the_memory():
    """LONG_BINPUT: the place in the memo, for which pickle's own reader in C would make room."""
    before = _resident()
    with pytest.raises((ConfigError, DataError)):
        read_tensors(archive(b"\x80\x02Nr\x00\x00\x00\x10."))
    assert _resident() - before < 2**26


@pytest.mark.parametrize("zipped", [True, False])
def test_damage_anywhere_is_told_or_harmless(zipped: bool):
    torch.save({"a": torch.randn(30, 4), "b": {"c": torch.ones(5)}}, "x.pt", _use_new_zipfile_serialization=zipped)
    data = Path("x.pt").read_bytes()
    told = 0
    for seed in range(100):
        damaged = bytearray(data)
        for place in torch.randint(len(data), (4,), generator=torch.Generator().manual_seed(seed)).tolist():
            damaged[place] ^= 0x55
        Path("y.pt").write_bytes(damaged)
        try:
            read_tensors(Path("y.pt"))
        except (ConfigError, DataError):
            told += 1
    assert told > 10


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_walked_and_its_code_left_alone():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).half()
            self.register_buffer("input_resolution", torch.tensor(224))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

    net = Net().eval()
    torch.jit.trace(net.float(), torch.ones(1, 2)).save("net.pt")  # pyright: ignore
    with zipfile.ZipFile("net.pt") as old, zipfile.ZipFile("bad.pt", "w") as new:
        for name in old.namelist():
            is_code = "/code/" in name or name.endswith("constants.pkl")
            new.writestr(name, pickle.dumps(Bomb()) if is_code else old.read(name))
    for path in ("net.pt", "bad.pt"):
        torch.testing.assert_close(read_tensors(Path(path)), dict(net.state_dict()), rtol=0, atol=0)
    unharmed()


def test_nothing_is_read_before_it_is_used():
    torch.save({"big": torch.zeros(2**24)}, "x.pt")
    with open("x.pt", "rb") as file:
        resident = _resident()
        assert read_tensors(Path("x.pt"))["big"].shape == (2**24,)
        assert _resident() - resident < 2**24
        assert file


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_cut_file_is_damaged(zipped: bool, share: float):
    torch.save({"x": torch.ones(1000)}, "x.pt", _use_new_zipfile_serialization=zipped)
    data = Path("x.pt").read_bytes()
    Path("x.pt").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"x\.pt is (damaged|empty)"):
        read_tensors(Path("x.pt"))


def _stored(key: str, count: int, size: str, stride: str, offset: int = 0) -> bytes:
    code = f"(S'storage'\nctorch\nFloatStorage\nS'{key}'\nS'cpu'\nI{count}\ntQ"
    tensor = f"ctorch._utils\n_rebuild_tensor_v2\n({code}I{offset}\n{size}{stride}I00\nccollections\nOrderedDict\n(tRtR"
    return f"(dS'x'\n{tensor}s.".encode()


@pytest.mark.parametrize(
    ("count", "size", "stride", "offset"),
    [
        (4, "(I5\nt", "(I1\nt", 0),
        (4, "(I4\nt", "(I1\nt", 1),
        (4, "(I4\nt", "(I-1\nt", 3),
        (4, "(I1000000000\nt", "(I0\nt", 0),
        (400, "(I4\nt", "(I1\nt", 0),
    ],
)
def test_tensors_beyond_their_storage_are_refused(count: int, size: str, stride: str, offset: int):
    path = archive(_stored("0", count, size, stride, offset), **{"data/0": struct.pack("<4f", 1, 2, 3, 4)})
    with pytest.raises(DataError, match="damaged"):
        read_tensors(path)


def test_a_tensor_within_its_storage_is_read():
    path = archive(_stored("0", 4, "(I2\nt", "(I2\nt", 1), **{"data/0": struct.pack("<4f", 1, 2, 3, 4)})
    assert read_tensors(path)["x"].tolist() == [2, 4]


def test_other_files_are_refused(here: Path):
    Path("notes.txt").write_text("hello world")
    with pytest.raises(ConfigError, match="no weight file that is read here"):
        read_tensors(Path("notes.txt"))
    Path("bare.pt").write_bytes(pickle.dumps({"x": Bomb()}))
    with pytest.raises(ConfigError, match="pickle of something else"):
        read_tensors(Path("bare.pt"))
    torch.save({"epoch": 3}, "empty.pt")
    with pytest.raises(ConfigError, match="holds no tensors"):
        read_tensors(Path("empty.pt"))
    Path("x.safetensors").write_bytes(b"12345678abc")
    with pytest.raises(DataError, match="damaged"):
        read_tensors(Path("x.safetensors"))
    unharmed()
