"""Looks through pickles for what they would call, without calling it.

Formats of other libraries (DeepSpeed's checkpoints, the metadata of PyTorch's distributed ones) are pickles, and
reading a pickle can run anything. Here every name that one asks for is looked up in a list, and gets a stand-in that
does nothing.
"""

import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mmfound.errors import CheckpointError, ConfigError

_DCP_METADATA = ".metadata"
_PLAIN = ("latest", "latest_universal")  # text files of DeepSpeed
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


def scan_folder(folder: Path) -> None:
    """Look through every file of a checkpoint folder.

    Raises:
        ConfigError: when one would call something that is not in `ALLOWED`, or is of a kind that cannot be looked
            through.
        CheckpointError: when one cannot be read.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in _PLAIN and path.suffix not in (".py", ".json"):
            scan_file(path)


def scan_file(path: Path) -> None:
    """Look through one file: what torch.save writes, several of those in a row, or a bare pickle.

    Raises:
        ConfigError, CheckpointError: as `scan_folder`.
    """
    try:
        with open(path, "rb") as file:
            if path.name == _DCP_METADATA:
                _scan_pickle(file, path)
                return
            for part in _archives(file, path):
                _scan_archive(part, path)
    except (OSError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise CheckpointError(f"checkpoint file {path} cannot be read: {error}; name another checkpoint") from error


def _archives(file: BinaryIO, path: Path) -> Iterator[Any]:
    """The whole file, or the slices that a distributed checkpoint's metadata names."""
    if path.suffix != ".distcp":
        yield file
        return
    index = path.with_name(_DCP_METADATA)
    with open(index, "rb") as metadata:
        _scan_pickle(metadata, index)
        metadata.seek(0)
        storage = pickle.load(metadata).storage_data  # only names in ALLOWED
    for info in storage.values():
        if info.relative_path == path.name:
            yield _Slice(file, info.offset, info.length)


class _Slice(io.RawIOBase):
    """A part of a file as a file, of which only what is asked for is read."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
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

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._length - self._at)
        self._file.seek(self._start + self._at)
        found = self._file.read(left if size < 0 else min(size, left))
        self._at += len(found)
        return found


def _scan_archive(file: Any, path: Path) -> None:
    if file.read(4) != b"PK\x03\x04":
        raise ConfigError(f"{path} is no archive of torch.save, and what else it would run cannot be checked")
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith(".pkl")]
        if len(set(names)) < len(names) or [name.rpartition("/")[2] for name in pickles] != ["data.pkl"]:
            raise ConfigError(f"{path} holds {pickles}, where torch.save writes one data.pkl; it may hide something")
        _scan_pickle(io.BytesIO(archive.read(pickles[0])), path)


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
