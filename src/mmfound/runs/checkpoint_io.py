"""Checkpoints to disk: copied on the training thread, written and proved on another."""

import errno
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
import torch.distributed as dist
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from mmfound.errors import CheckpointError, ConfigError, DiskFullError
from mmfound.runs import durable
from mmfound.strategies.whole import whole_checkpoint

FACTS = "mmfound"  # key in a checkpoint of what its manifest repeats
_SPARE_BYTES = 16 * 2**20  # for what is not tensors, and for logs


class Ranks(Protocol):
    """What a strategy knows about its ranks."""

    global_rank: int
    world_size: int
    is_global_zero: bool

    def barrier(self, name: str | None = None) -> None:
        """Wait for all."""

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """The first rank's."""


class DurableIO(CheckpointIO):
    """Writes checkpoints that are whole or absent, off the training thread, one at a time.

    `save_checkpoint` copies the tensors and returns; a checkpoint gets its name when `publish` has been called. What a
    save meets is kept in `error`, for all ranks to end together, and nothing is written after it.

    Strategies whose ranks each write a part call `save_folder` instead, which returns when the parts are written.

    Attributes:
        error: what the last save met.
    """

    def __init__(self) -> None:
        self.on_published: Callable[[Path], None] = lambda path: None  # called by the writing thread
        self.error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._go = threading.Event()  # set when the checkpoint in the making may get its name
        self._dropped = False
        self._place: Callable[[], None] | None = None  # gives a folder its name, on the first rank

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Copy, and begin to write."""
        path = Path(path)
        self.settle()
        if self.error is not None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            copied, size = snapshot(checkpoint)
            _check_room(path, size, shutil.disk_usage(path.parent).free)
        except Exception as error:  # noqa: BLE001 - other ranks are on their way into a barrier
            self.error = error
            return
        self._go.clear()
        self._dropped = False
        self._thread = threading.Thread(target=self._write, args=(copied, path), name="checkpoint", daemon=True)
        self._thread.start()

    def save_folder(
        self, path: Path, size: int, facts: Mapping[str, Any], fill: Callable[[Path], None], ranks: "Ranks"
    ) -> None:
        """Write a checkpoint of several files, by all ranks together.

        Args:
            path: its name.
            size: bytes that it may take.
            facts: kept in its manifest.
            fill: writes this rank's files into the folder it is given.
            ranks: the strategy.

        Raises:
            DiskFullError: on all ranks, when there is no room.
        """
        self.settle()
        partial = durable.partial_folder(path)
        if ranks.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        free = ranks.broadcast(shutil.disk_usage(partial.parent).free if ranks.is_global_zero else 0)
        _check_room(path, size, free)
        _fill(partial, fill)
        ranks.barrier("written")
        # As the first rank lists them: on a network file system another one may not see all names yet.
        names = ranks.broadcast(durable.files_in(partial) if ranks.is_global_zero else [])
        mine = durable.proof_of(partial, names[ranks.global_rank :: ranks.world_size])
        proofs: list[Any] = [mine]
        if ranks.world_size > 1:
            proofs = [None] * ranks.world_size
            dist.all_gather_object(proofs, mine)
        if ranks.is_global_zero:
            files = {name: proof for part in proofs for name, proof in part.items()}
            self._place = lambda: self._name(path, files, facts)

    @property
    def is_held(self) -> bool:
        """Whether a checkpoint in the making waits for `publish`."""
        return self._place is not None or (self._thread is not None and not self._go.is_set())

    def publish(self) -> None:
        """Let the checkpoint in the making get its name: the log of its step is written."""
        self._go.set()
        if self._place is not None:
            place, self._place = self._place, None
            place()

    def drop(self) -> None:
        """Forget the checkpoint in the making if it has no name yet."""
        self._dropped = True
        self._place = None
        self._go.set()

    def settle(self) -> None:
        """Wait for the checkpoint in the making, which is published."""
        self.publish()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read, on the CPU; what several ranks have written is put together.

        Raises:
            CheckpointError: when the file cannot be read.
            ConfigError: when it would have to run code.
        """
        try:
            if Path(path).is_dir():
                return whole_checkpoint(Path(path), trusted=weights_only is False)
            return torch.load(path, map_location="cpu", weights_only=weights_only is not False)
        except UnpicklingError as error:
            raise ConfigError(
                f"checkpoint {path} holds more than tensors and plain values, which could run code; where you trust "
                "it, add --weights_only false"
            ) from error
        except (RuntimeError, EOFError, OSError) as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(f"checkpoint {path} cannot be read: {first}; name another one") from error

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint and its manifest."""
        durable.remove(Path(path))

    def teardown(self) -> None:
        """Leave no thread behind; a checkpoint in the making that training did not get to publish is dropped."""
        if not self._go.is_set() or self._place is not None:
            self.drop()
        self.settle()

    def _write(self, checkpoint: Mapping[str, Any], path: Path) -> None:
        try:
            facts = checkpoint.get(FACTS, {})
            durable.write(path, lambda file: torch.save(checkpoint, file), facts, self._wait_for_go)
            self.on_published(path)
        except _Dropped:
            pass
        except Exception as error:  # noqa: BLE001 - for the training thread to raise
            self.error = error

    def _name(self, path: Path, files: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        try:
            durable.name_folder(path, files, facts)
            self.on_published(path)
        except Exception as error:  # noqa: BLE001 - for all ranks to raise together
            self.error = error

    def _wait_for_go(self) -> None:
        self._go.wait()
        if self._dropped:
            raise _Dropped


class _Dropped(Exception):  # noqa: N818 - not an error
    """The checkpoint in the making is not wanted any more."""


def snapshot(value: Any) -> tuple[Any, int]:
    """A copy of nested containers with all tensors on the CPU, which training does not touch, and their bytes.

    Tensors that are the same memory stay one.
    """
    copies: dict[tuple, Tensor] = {}

    def copy(value: Any) -> Any:
        if isinstance(value, Tensor):
            key = (value.device, value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
            if not value.numel() or key not in copies:
                copies[key] = value.detach().to("cpu", copy=True)
            return copies[key]
        if isinstance(value, dict):
            fresh = type(value)() if type(value) is not dict else {}
            fresh.update((name, copy(inner)) for name, inner in value.items())
            return fresh
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return type(value)(copy(inner) for inner in value)
        return value

    return copy(value), sum(tensor.numel() * tensor.element_size() for tensor in copies.values())


def _fill(partial: Path, fill: Callable[[Path], None]) -> None:
    """Libraries do not say that a disk is full, and one reports it as no ordinary exception."""
    try:
        fill(partial)
    except (Exception, CheckpointException) as error:
        left = shutil.disk_usage(partial).free
        shutil.rmtree(partial, ignore_errors=True)
        if left < _SPARE_BYTES or os.strerror(errno.ENOSPC) in str(error):
            raise DiskFullError(
                f"no room to write {partial.parent}: {left / 2**20:.0f} MB are left; what was saved before is "
                "untouched. Make some, and start the same command again"
            ) from error
        if isinstance(error, Exception):
            raise
        raise RuntimeError(f"the checkpoint could not be written: {error}") from error


def _check_room(path: Path, size: int, free: int) -> None:
    if free < size + _SPARE_BYTES:
        raise DiskFullError(
            f"no room for the checkpoint {path}: it takes {size / 2**20:.0f} MB and {free / 2**20:.0f} MB are free; "
            "what was saved before is untouched. Make some, and start the same command again"
        )
