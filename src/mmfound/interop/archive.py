"""Reads the tensors of foreign weight files and nothing else.

Files of torch.save (its archives and its older format), TorchScript archives and safetensors. Pickles are read with
inert stand-ins for every name in them but the few that make tensors, and those are our own: nothing that a file names
is imported or called, and TorchScript's code is not looked at. Tensors are maps of the file, read when they are used.
"""

import io
import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from mmfound.errors import ConfigError, DataError

SUFFIXES = (".safetensors", ".pt", ".bin", ".pth", ".ckpt")
_LARGEST_PICKLE = 2**28  # of names and shapes alone
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_MAGIC = 0x1950A86A20F9469CFC6C  # begins the older format (torch/serialization.py)
_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
    "UntypedStorage": torch.uint8,
}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name.

    Of a training checkpoint those under `state_dict`; what is neither a tensor nor holds some is left out.

    Raises:
        ConfigError: when there is no such file, or it is of another kind or holds no tensors.
        DataError: when it is damaged.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; name the weights, or the folder they are in")
    with open(path, "rb") as file:
        start = file.read(8)
    try:
        found = _read(path, start)
    except (ConfigError, DataError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a damaged or crafted file makes of its reader
        first = str(error).partition("\n")[0]
        raise DataError(f"{path} is damaged and cannot be read; copy or download it again ({first})") from error
    if not found:
        raise ConfigError(f"{path} holds no tensors by name; name a file of weights")
    return found


def _read(path: Path, start: bytes) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    if start.startswith(_ZIP):
        archive = torch._C.PyTorchFileReader(str(path))
        return _by_name(_ArchivePickle(archive, path).load())
    if start.startswith(_PICKLE):
        return _by_name(_read_old(path))
    if not start:
        raise DataError(f"{path} is empty; copy or download it again")
    raise ConfigError(
        f"{path} is no weight file that is read here: it begins with {start!r}, and is neither an archive of "
        "torch.save or TorchScript nor safetensors"
    )


def _by_name(root: Any) -> dict[str, Tensor]:
    """Tensors with dotted names; of modules those in their state, in the order of the file."""
    state = _entries(root)
    for wrapper in ("state_dict", "model_state_dict"):
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    found: dict[str, Tensor] = {}
    _collect(state, "", found, set())
    return found


def _collect(state: Mapping[Any, Any], prefix: str, found: dict[str, Tensor], inside: set[int]) -> None:
    for name, value in state.items():
        if isinstance(value, Tensor):
            found[f"{prefix}{name}"] = value
        elif (entries := _entries(value)) and id(value) not in inside:
            _collect(entries, f"{prefix}{name}.", found, inside | {id(value)})


def _entries(value: Any) -> Mapping[Any, Any]:
    state = value.state if isinstance(value, Inert) else value
    return state if isinstance(state, Mapping) else {}


class Inert:
    """What stands for anything that a pickle names: holds the state that it is given, and does nothing."""

    state: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *args: Any, **kwargs: Any) -> "Inert":
        return Inert()

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...


class _Honoured:
    """One of our own functions under a name of torch's; without attributes that a pickle could set."""

    __slots__ = ("__call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_Honoured__call", call)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("it sets attributes of functions")

    def __call__(self, *args: Any) -> Any:
        return self.__call(*args)  # pyright: ignore[reportAttributeAccessIssue]


class _TensorPickle(pickle._Unpickler):  # pyright: ignore[reportAttributeAccessIssue]
    """A pickle of which only tensors, plain values and the states of objects come out.

    The one in Python: the one in C fills gigabytes for a wrong number in a damaged file (its memo is an array).
    """

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file)
        self.path = path
        self._storages: dict[str, torch.UntypedStorage] = {}
        self._known: dict[str, Any] = {
            "collections OrderedDict": OrderedDict,
            "torch Size": _Honoured(lambda sizes=(): tuple(sizes)),
            "torch._utils _rebuild_tensor": _Honoured(_tensor),
            "torch._utils _rebuild_tensor_v2": _Honoured(_tensor),
            "torch._utils _rebuild_parameter": _Honoured(lambda data, *_: data),
            "torch._utils _rebuild_parameter_with_state": _Honoured(lambda data, *_: data),
        }

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and (name in _DTYPES or name in _STORAGES):
            return _DTYPES.get(name) or _STORAGES[name]
        # One class a name and file, so that whatever a pickle does to it stays there.
        return self._known.setdefault(f"{module} {name}", type("Inert", (Inert,), {}))

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and pid[:1] == ("module",):  # the older format adds a class's source
            return pid[1]
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise DataError(f"{self.path} names a storage of an unknown kind ({pid[:2]!r}); save it again")
        if key not in self._storages:
            self._storages[key] = self._storage(key, int(count) * dtype.itemsize)
        return self._storages[key], dtype, key

    def _storage(self, key: str, size: int) -> torch.UntypedStorage:
        raise NotImplementedError


class _ArchivePickle(_TensorPickle):
    """`data.pkl` of an archive, whose storages are other records of it."""

    def __init__(self, archive: Any, path: Path) -> None:
        if archive.get_record_size("data.pkl") > _LARGEST_PICKLE:
            raise DataError(f"{path} is damaged: its data.pkl would be larger than {_LARGEST_PICKLE} bytes")
        super().__init__(io.BytesIO(archive.get_record("data.pkl")), path)
        if archive.has_record("byteorder") and archive.get_record("byteorder") != b"little":
            raise ConfigError(f"{path} was written on a big-endian machine; save it again on a common one")
        self._archive = archive
        self._bytes = path.stat().st_size
        self._file = torch.UntypedStorage.from_file(str(path), False, self._bytes)

    def _storage(self, key: str, size: int) -> torch.UntypedStorage:
        record = f"data/{key}"
        start = self._archive.get_record_offset(record)
        if not 0 <= size <= self._archive.get_record_size(record) or start + size > self._bytes:
            raise DataError(f"{self.path} is damaged: its record {record} is shorter than {size} bytes; copy it again")
        return self._file[start : start + size] if size else torch.UntypedStorage(0)  # pyright: ignore[reportReturnType]


class _OldPickle(_TensorPickle):
    """The tensors' pickle of the older format; its storages come after it, so they are filled later."""

    def _storage(self, key: str, size: int) -> torch.UntypedStorage:
        left = self.path.stat().st_size - sum(storage.nbytes() for storage in self._storages.values())
        if not 0 <= size <= left:
            raise DataError(f"{self.path} is damaged: it names {size} bytes and has {left}; copy it again")
        return torch.UntypedStorage(size)

    def fill(self, file: Any) -> None:
        """Read the storages, in the order that the file lists them in."""
        keys = _TensorPickle(file, self.path).load()
        for key in keys:
            storage = self._storages[key]
            count = struct.unpack("<q", file.read(8))[0]
            if count < 0 or storage.nbytes() % max(count, 1):
                raise DataError(f"{self.path} is damaged: a storage of {count} values where another is named")
            data = file.read(storage.nbytes())
            if len(data) < storage.nbytes():
                raise DataError(f"{self.path} is damaged: it ends within its tensors; copy or download it again")
            if data:
                read = torch.frombuffer(bytearray(data), dtype=torch.uint8)
                torch.empty(0, dtype=torch.uint8).set_(storage).copy_(read)


def _read_old(path: Path) -> Any:
    """The format of torch.save before 1.6: magic number, version, system, objects, storages."""
    with open(path, "rb") as file:
        if _TensorPickle(file, path).load() != _MAGIC:
            raise ConfigError(f"{path} is a pickle of something else than torch.save writes, and was not opened")
        for _ in range(2):
            _TensorPickle(file, path).load()
        unpickler = _OldPickle(file, path)
        root = unpickler.load()
        unpickler.fill(file)
        return root


def _tensor(stored: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    storage, dtype, key = stored
    last = int(offset) + sum((int(n) - 1) * int(step) for n, step in zip(size, stride, strict=True))
    inside = offset >= 0 and all(step >= 0 for step in stride) and (last + 1) * dtype.itemsize <= storage.nbytes()
    # A stride of 0 could make a small file fill the memory.
    if not inside or math.prod(size) * dtype.itemsize > storage.nbytes():
        raise DataError(f"a tensor of shape {list(size)} is larger than its storage {key}; the file is damaged")
    return torch.empty(0, dtype=dtype).set_(storage, int(offset), tuple(size), tuple(stride))
