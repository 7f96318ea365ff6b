"""Looks through pickles for what they would call, without calling it.

Formats of other libraries (DeepSpeed's checkpoints, the metadata of PyTorch's distributed ones) are pickles, and
reading a pickle can run anything. Here every name that one asks for is looked up in a list, and gets a stand-in that
does nothing.
"""

import copyreg
import io
import pickle
import re
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from mmfound.errors import CheckpointError, ConfigError

_DCP_METADATA = ".metadata"
_META = "meta.pt"
_TEXTS = re.compile(r"latest|zero_to_\w+\.py")  # beside DeepSpeed's files; never opened
_SHARD = re.compile(r"__\d+_\d+\.distcp")
_DTYPES = {f"torch {name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_STORAGES = {f"torch {name}" for name in dir(torch) if name.endswith("Storage")}
ALLOWED = frozenset(
    _DTYPES
    | _STORAGES
    | {
        "_codecs encode",
        "builtins bytearray",
        "builtins complex",
        "builtins frozenset",
        "builtins set",
        "builtins slice",
        "collections OrderedDict",
        "collections defaultdict",
        "builtins dict",
        "builtins list",
        "deepspeed.runtime.fp16.loss_scaler DynamicLossScaler",
        "deepspeed.runtime.fp16.loss_scaler LossScaler",
        "deepspeed.runtime.zero.config ZeroStageEnum",
        "deepspeed.utils.tensor_fragment fragment_address",
        "pathlib PosixPath",
        "torch Size",
        "torch Tensor",
        "torch.nn.parameter Parameter",
        "torch device",
        "torch._tensor _rebuild_from_type_v2",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_tensor",
        "torch._utils _rebuild_tensor_v2",
        "torch.distributed.checkpoint.filesystem _StorageInfo",
        "torch.distributed.checkpoint.metadata BytesStorageMetadata",
        "torch.distributed.checkpoint.metadata ChunkStorageMetadata",
        "torch.distributed.checkpoint.metadata Metadata",
        "torch.distributed.checkpoint.metadata MetadataIndex",
        "torch.distributed.checkpoint.metadata StorageMeta",
        "torch.distributed.checkpoint.metadata TensorProperties",
        "torch.distributed.checkpoint.metadata TensorStorageMetadata",
        "torch.distributed.checkpoint.metadata _MEM_FORMAT_ENCODING",
        "torch.serialization _get_layout",
        "torch.storage UntypedStorage",
    }
)


def save_by_value(kind: type[Enum]) -> None:
    """Save members of an enumeration as class and value, as Python does.

    But 3.11.0 to 3.11.3 save a call of `getattr`, which could get at anything and which no scan lets through.
    """
    copyreg.pickle(kind, _by_value)


def _by_value(member: Enum) -> tuple[type[Enum], tuple[Any]]:
    return type(member), (member.value,)


def scan_folder(folder: Path) -> None:
    """Look through every file of a checkpoint folder that anything opens; other files are refused.

    Raises:
        ConfigError: when one would call something that is not in `ALLOWED`, or is of a kind that cannot be looked
            through.
        CheckpointError: when one cannot be read.
    """
    is_distributed = (folder / _DCP_METADATA).is_file()
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            raise ConfigError(f"{path} is a link, which may lead to another file than the one looked at; copy it")
        if path.is_dir() or (_TEXTS.fullmatch(name) and not is_distributed):
            continue
        known = _SHARD.fullmatch(name) or name in (_DCP_METADATA, _META) if is_distributed else path.suffix == ".pt"
        if not known:
            raise ConfigError(f"{path} belongs to no checkpoint of FSDP2 or DeepSpeed; take it out")
        scan_file(path)


def scan_file(path: Path) -> None:
    """Look through one file: what torch.save writes, or the metadata or a shard of a distributed checkpoint.

    Raises:
        ConfigError, CheckpointError: as `scan_folder`.
    """
    try:
        with open(path, "rb") as file:
            if path.name == _DCP_METADATA:
                _slices(file, path)
            elif _SHARD.fullmatch(path.name):
                for start, length in _slices_of(path):
                    _scan_archive(_Slice(file, start, length), path)
            else:
                _scan_archive(file, path)
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a damaged or crafted file makes of its reader
        raise CheckpointError(f"checkpoint file {path} cannot be read: {error}; name another checkpoint") from error


def _slices_of(shard: Path) -> list[tuple[int, int]]:
    index = shard.with_name(_DCP_METADATA)
    with open(index, "rb") as file:
        return [(start, length) for name, start, length in _slices(file, index) if name == shard.name]


def _slices(file: Any, path: Path) -> list[tuple[str, int, int]]:
    """Shard, start and length of everything in a distributed checkpoint, which are all that its reader opens."""
    _scan_pickle(file, path)
    file.seek(0)
    found = []
    for info in pickle.load(file).storage_data.values():  # of names in ALLOWED alone
        place = info.relative_path, info.offset, info.length
        if [type(part) for part in place] != [str, int, int] or not _SHARD.fullmatch(place[0]):
            raise ConfigError(f"{path} names {place[0]!r} as a part, which could lead to any file; it was not opened")
        if getattr(info, "transform_descriptors", None):
            raise ConfigError(f"{path} names transforms, which could run code; it was not opened")
        found.append(place)
    return found


class _Slice(io.RawIOBase):
    """A part of a file as a file, of which only what is asked for is read."""

    def __init__(self, file: Any, start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file, start, length, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = max(0, offset + (0, self._at, self._length)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        left = max(0, self._length - self._at)
        self._file.seek(self._start + self._at)
        count = self._file.readinto(memoryview(buffer)[:left])
        self._at += count
        return count


def _scan_archive(file: Any, path: Path) -> None:
    """By torch's own reader: another one may find another file under the same name."""
    if file.read(4) != b"PK\x03\x04":
        raise ConfigError(f"{path} is no archive of torch.save, and what else it would run cannot be checked")
    file.seek(0)
    archive = torch._C.PyTorchFileReader(file)
    if "constants.pkl" in archive.get_all_records():
        raise ConfigError(f"{path} is an archive of TorchScript, whose code would be loaded; it was not opened")
    _scan_pickle(io.BytesIO(archive.get_record("data.pkl")), path)


def _scan_pickle(file: Any, path: Path) -> None:
    scanner = _Scanner(file)
    scanner.path = path
    scanner.load()


class _Scanner(pickle.Unpickler):
    """Reads a pickle with stand-ins for everything that it names."""

    path: Path

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        module_name = "builtins" if module_name == "__builtin__" else module_name  # as old protocols call it
        if f"{module_name} {global_name}" not in ALLOWED:
            raise ConfigError(
                f"{self.path} calls {module_name}.{global_name}, which is no tensor or plain value and could run code; "
                "it was not opened. Do not use it unless you made it"
            )
        return _StandIn

    def persistent_load(self, pid: Any, /) -> Any:
        return _StandIn()


class _StandIn:
    """Takes whatever a pickle does to it, as value, key, container or class."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_StandIn":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> "_StandIn":
        return self

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...
