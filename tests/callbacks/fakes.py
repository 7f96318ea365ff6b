"""A task with noise in its loss, a data module without files, and a Trainer around them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import Tensor, nn

from mmfound.data.source import Source
from mmfound.evaluation.evaluator import Evaluator
from mmfound.optim import Constant, Optim
from mmfound.tasks import Task
from tests.evaluation.fakes import Colours, FakeData

IGNORED = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own, with torch 2.14


class NoisyTask(Task):
    """Pulls a weight to one plus noise; notes what was drawn."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(Optim(lambda groups: torch.optim.SGD(groups, lr=0.1), Constant()))
        self.network = network
        self.drawn: list[float] = []

    def compute_losses(self, batch: Any) -> dict[str, Tensor]:
        noise = torch.randn(())
        if self.training:
            self.drawn.append(noise.item())
        return {"loss": (self.network(torch.ones(len(batch["key"]), 3)).mean() - 1 - 0.1 * noise) ** 2}


class Batches:
    """Equal micro-batches of 4; resumable, as Lightning asks, because none differs from another."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _ in range(self.count):
            yield {"key": ["a"] * 4, **dict.fromkeys(["image", "tokens", "token_mask", "text_id"], torch.zeros(4))}


class Data(LightningDataModule, FakeData):
    """Training batches, and validation ones if asked for."""

    def __init__(self, val: bool) -> None:
        LightningDataModule.__init__(self)
        FakeData.__init__(self)
        self.val = val
        self.val_source = Colours(12)

    def train_dataloader(self) -> Batches:
        return Batches(10)

    def val_dataloader(self) -> Any:
        return Batches(2) if self.val else []

    test_dataloader = val_dataloader


class Notes(Evaluator):
    """Gives the number of its call, and notes the model's state."""

    def __init__(self, source: Source | None = None, *, name: str = "notes") -> None:
        super().__init__(source or Colours(), name=name)
        self.calls = 0
        self.seen: list[tuple[bool, bool]] = []

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        self.calls += 1
        self.seen.append((model.training, torch.is_grad_enabled()))
        torch.randn(7)
        return {"calls": self.calls}


def make_trainer(folder: Path, callbacks: Sequence[Callback], **options: Any) -> Trainer:
    """On the CPU, quiet, six steps."""
    defaults = {"max_steps": 6, "check_val_every_n_epoch": None, "val_check_interval": 3, "log_every_n_steps": 2}
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    bar = {"enable_progress_bar": any(type(callback).__name__ == "Progress" for callback in callbacks)}
    everything = {**defaults, **quiet, **bar, **options}
    return Trainer(accelerator="cpu", devices=1, default_root_dir=folder, callbacks=list(callbacks), **everything)
