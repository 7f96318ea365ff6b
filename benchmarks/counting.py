"""One of the processes that benchmarks/communication.py counts on: trains under every case, one after the other.

It is started with torchrun's variables, and with a file of cases and a file for what was counted.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from collectives import Call, Collectives, bytes_sent
from lightning.pytorch import Callback, LightningModule, Trainer
from traffic import parts

from mmfound.cli import main as mmfound
from mmfound.tasks import Contrastive

WARM_UP = 3  # DDP sorts its buckets anew after the first step, ZeRO 3 learns the order of modules


class Parts(Contrastive):
    """Contrasts only within a micro-batch, so that steps of several can be counted."""

    whole_batch_loss = False


class Count(Callback):
    """Collectives of every step after the first few, and what the sockets have sent meanwhile.

    Attributes:
        found: of the runs so far.
    """

    found: list[dict[str, Any]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from here on, what other callbacks do included."""
        self.counter = Collectives()
        self.calls: Counter[Call] = Counter()
        self.steps = 0
        self.counter.__enter__()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """A step has ended, or a micro-batch."""
        if trainer.fit_loop._should_accumulate():
            return
        taken = self.counter.take()
        if trainer.global_step == WARM_UP:
            self.before = bytes_sent()
        elif trainer.global_step > WARM_UP:
            self.calls.update(taken)
            self.sent, self.steps = bytes_sent() - self.before, self.steps + 1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what a step takes on average."""
        self.counter.__exit__(None, None, None)
        calls = [[*call, size / self.steps] for call, size in self.calls.items()]
        self.found.append({"calls": calls, "sent": self.sent / self.steps, "network": parts(pl_module)})


def main(cases: Path, out: Path) -> None:
    """Train under every case, a list of options; write what the first process has counted."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for options in json.loads(cases.read_text()):
        code = mmfound(["fit", *options])
        if code != 0:
            raise SystemExit(code)
    if dist.get_rank() == 0:
        out.write_text(json.dumps(Count.found))
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.modules["counting"] = sys.modules["__main__"]  # the recipe's callback is this one
    main(Path(sys.argv[1]), Path(sys.argv[2]))
