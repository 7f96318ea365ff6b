"""Counts what collectives move: every call on this process, and the bytes that its sockets have sent."""

import os
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

KINDS = ("all_gather", "reduce_scatter", "all_reduce", "broadcast", "all_to_all", "reduce", "gather", "scatter", "send")
_BYTES_SENT = 200  # their place in Linux's struct tcp_info, before those that were sent again


class Call(NamedTuple):
    """What is the same about many collectives.

    Attributes:
        kind: of collective.
        purpose: gradients, parameters, embeddings or control.
        dtype: of the elements, such as float32.
    """

    kind: str
    purpose: str
    dtype: str


class Collectives(TorchDispatchMode):
    """While it is active, sums up the payloads of all collectives that this thread starts, C++'s among them.

    The payload is the whole tensor: what is reduced, what is gathered from all ranks, what is to be scattered.
    Everything goes through the dispatcher's operators of `c10d`: torch.distributed's functions, DDP's reducer, FSDP2
    and DeepSpeed.

    Attributes:
        payload: bytes by kind, purpose and dtype since the last `take`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.payload: Counter[Call] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # its own collectives come back here
        if func.namespace in ("c10d", "_c10d_functional"):
            self._count(func._schema.name.split("::")[1], (*args, *(kwargs or {}).values()))
        return func(*args, **(kwargs or {}))

    def take(self) -> Counter[Call]:
        """What has been counted, to begin anew."""
        taken, self.payload = self.payload, Counter()
        return taken

    def _count(self, name: str, args: tuple) -> None:
        sides = [list(_tensors(value)) for value in args]
        whole = max(sides, key=_nbytes)
        if whole:
            kind = next((kind for kind in KINDS if kind.replace("_", "") in name.replace("_", "")), name)
            dtype = str(whole[0].dtype).removeprefix("torch.")
            self.payload[Call(kind, _purpose(kind, whole), dtype)] += _nbytes(whole)


def bytes_sent() -> int:
    """Bytes that the TCP connections of this process have sent since they were opened, by the kernel's count."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(name))) as connection:
                    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)
                once, again = struct.unpack_from("QQ", info, _BYTES_SENT)
                total += once - again
    return total


def _purpose(kind: str, tensors: list[Tensor]) -> str:
    if any(file.endswith("mmfound/distributed.py") for file in _callers()):
        return "embeddings"
    if all(tensor.numel() <= 64 for tensor in tensors) or not tensors[0].is_floating_point():
        return "control"  # norms, overflows, agreements
    return "parameters" if kind in ("all_gather", "broadcast") else "gradients"


def _callers() -> Iterator[str]:
    frame = sys._getframe()
    while frame is not None:
        yield frame.f_code.co_filename
        frame = frame.f_back


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)


def _nbytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
