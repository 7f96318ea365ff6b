"""What all ranks do at the same step, without waiting for one another."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

NAMES = ("stop", "diverged", "save", "failed")


class Agreement(Callback):
    """Numbers that any rank raises and all ranks see at the end of the same optimiser step or validation batch.

    The largest over ranks is computed in the background, on the host, and read at the end of the next step; on one
    process it is there at once. Callbacks after this one read `agreed` in the same hooks.

    Attributes:
        says: what this rank has to say when it is asked, by name; 0 is nothing.
        agreed: the largest over ranks.
        sure: whether what is said must be up to date, whatever it waits for.
    """

    def __init__(self) -> None:
        self.says: dict[str, Callable[[], int]] = dict.fromkeys(NAMES, lambda: 0)
        self.agreed = dict.fromkeys(NAMES, 0)
        self.sure = False
        self._group: Any = None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """A group of its own on the host: the training's may be busy on the device."""
        self._take()  # of a fit that ended early
        self.agreed = dict.fromkeys(NAMES, 0)
        if trainer.world_size > 1 and self._group is None:
            self._group = dist.new_group(backend="gloo")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A signal may have come before the first step."""
        self.now()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Exchange at the end of a step."""
        if not trainer.fit_loop._should_accumulate():
            self.exchange()

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Exchange at the end of a batch, of which every rank has the same number."""
        if trainer.state.fn == "fit":
            self.exchange()

    def exchange(self) -> None:
        """Take what all said last time, and say what there is now."""
        self._take()  # before this rank's device is waited for: another one may be gone
        mine = [self.says[name]() for name in NAMES]
        if self._group is None:
            self.agreed = dict(zip(NAMES, mine, strict=True))
            return
        said = torch.tensor(mine)
        self._pending = (dist.all_reduce(said, op=dist.ReduceOp.MAX, group=self._group, async_op=True), said)

    def now(self) -> None:
        """Agree at once, which waits for the slowest rank and its device."""
        self.sure = True
        self.exchange()
        self._take()
        self.sure = False

    def meet(self, within: timedelta) -> None:
        """Wait for the other ranks, but not for ever: one may be gone."""
        if self._group is not None:
            with suppress(RuntimeError):
                dist.monitored_barrier(self._group, within)

    def _take(self) -> None:
        if self._pending is not None:
            work, said = self._pending
            work.wait()
            self.agreed = dict(zip(NAMES, said.tolist(), strict=True))
            self._pending = None

    def gathered(self, value: Any) -> list[Any]:
        """What every rank says, at once."""
        if self._group is None:
            return [value]
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, value, group=self._group)
        return found

    def largest(self, value: torch.Tensor) -> torch.Tensor:
        """The largest of a number over ranks, at once."""
        if self._group is not None:
            dist.all_reduce(value, op=dist.ReduceOp.MAX, group=self._group)
        return value
