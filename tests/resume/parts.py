"""What the drills' recipes name: dropout, an endless record of what was trained on, and interruptions on time."""

import errno
import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from mmfound.callbacks import Ema, StepSeed
from mmfound.data import Digits
from mmfound.data.loader import TrainLoader
from mmfound.errors import DataError
from mmfound.runs import durable

HOW, SABOTAGE = "DRILL", "DRILL_SABOTAGE"  # in the environment: WHERE:STEP:WHAT[:RANK], and what is left out


class Dropped(nn.Module):
    """A tower with dropout behind it."""

    def __init__(self, tower: nn.Module, p: float = 0.2) -> None:
        super().__init__()
        self.tower = tower
        self.dropout = nn.Dropout(p)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.dropout(self.tower(*inputs))


class FewDigits(Digits):
    """So few that a short run has several epochs."""

    def __len__(self) -> int:
        return 48


class HangsOnce(nn.Module):
    """An augmentation that takes its time over the first picture."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, image: Tensor) -> Tensor:
        time.sleep(self.seconds)
        self.seconds = 0.0
        return image


class Record(Callback):
    """Appends, for every micro-batch, its step, a hash of its pixels and tokens, and its loss, to a file per rank."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        parts = [batch[name].numpy().tobytes() for name in ("image", "tokens", "label") if name in batch]
        seen = {
            "position": trainer.datamodule.train_loader.position,  # pyright: ignore
            "step": trainer.global_step,
            "batch": hashlib.sha256(b"".join(parts)).hexdigest(),
            "keys": batch["key"],
            "loss": float(outputs["loss"]).hex(),
            "training": all(part.training for part in pl_module.modules()),
        }
        with open(Path(trainer.default_root_dir) / f"record.{trainer.global_rank}.jsonl", "a") as file:
            file.write("\n" + json.dumps(seen))  # after a line that a full disk has cut, too


def _bug() -> None:
    raise ZeroDivisionError("a bug")


def _bad_data() -> None:
    raise DataError("no picture in 3.tar")


def _full_disk() -> None:
    def write(self: durable.Hashing, data: Any) -> int:
        self.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise self.error

    durable.Hashing.write = write


def _linger() -> None:
    time.sleep(5)


_EVENTS = {"linger": _linger, "bug": _bug, "bad_data": _bad_data, "full_disk": _full_disk}


class Interrupt(Callback):
    """Lets something happen at a place that the environment names, if it names one.

    WHAT is a signal that this process gets, or one of `_EVENTS`; without a rank it happens on all. It does not happen
    again where a launcher starts the processes once more.
    """

    def __init__(self) -> None:
        self.where, step, self.what, rank = [*os.environ.get(HOW, "").split(":"), "", "", ""][:4]
        self.step, self.rank = int(step or -1), int(rank) if rank else None
        if any(os.environ.get(f"{launcher}_RESTART_COUNT", "0") != "0" for launcher in ("SLURM", "TORCHELASTIC")):
            self.where = ""

    def _at(self, where: str, trainer: Trainer) -> None:
        if where == self.where and trainer.global_step == self.step and self.rank in (None, trainer.global_rank):
            self.where = ""
            if self.what in _EVENTS:
                _EVENTS[self.what]()
            else:
                os.kill(os.getpid(), getattr(signal, self.what))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._at("setup", trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self._at("before_step", trainer)

    def on_before_optimizer_step(self, trainer: Trainer, *args: Any) -> None:
        self._at("in_step", trainer)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fit_loop._should_accumulate():
            self._at("in_window", trainer)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if not trainer.fit_loop._should_accumulate():
            self._at("after_step", trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._at("before_validation", trainer)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self._at("in_validation", trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._at("after_validation", trainer)


class Poisoned(nn.Module):
    """A tower whose output is NaN for the batch at one position, given by its number of forward passes in a process."""

    def __init__(self, tower: nn.Module, after: int) -> None:
        super().__init__()
        self.tower = tower
        self.after = after

    def forward(self, image: Tensor) -> Tensor:
        out = self.tower(image)
        self.after -= self.training
        return out * torch.nan if self.training and self.after == 0 else out


def _sabotage(what: str) -> None:
    """Take one of the things away without which resuming is not exact."""
    if what == "seed":
        StepSeed._seed = lambda *args: None
    if what == "position":
        TrainLoader.load_state_dict = lambda *args: None
    if what == "average":
        Ema.on_load_checkpoint = lambda *args: None


_sabotage(os.environ.get(SABOTAGE, ""))
