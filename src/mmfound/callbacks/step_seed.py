"""Random numbers as a function of the position in the run."""

import random
from collections.abc import Sized
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

_TRAINING, _EVALUATION = 0, 1
_64_BITS = (1 << 64) - 1


class StepSeed(Callback):
    """Seeds torch, numpy and random before each micro-batch from (seed, position of its first sample).

    So nothing of the generators needs saving, a validation in between changes nothing, and a run on two ranks draws
    what one rank with twice the micro-batches draws. Evaluation batches are keyed likewise, apart from training.

    Args:
        seed: of the run, the recipe's `seed_everything`.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._samples = 0  # handed out before this step over all ranks, where no loader says so

    def state_dict(self) -> dict[str, Any]:
        """Position for loaders that keep none."""
        return {"samples": self._samples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on at the position."""
        self._samples = int(state_dict["samples"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed for this rank's micro-batch. Its slice of the stream follows that of the rank before it."""
        size = _size(batch)
        together = size * trainer.world_size
        loader = getattr(getattr(trainer, "datamodule", None), "train_loader", None)
        position = getattr(loader, "position", None)
        before = self._samples if position is None else position - together
        self._samples = before + together
        self._seed(trainer, _TRAINING, before + size * trainer.global_rank)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Seed for this rank's batch, equally at every validation."""
        self._seed(trainer, _EVALUATION, batch_idx * trainer.world_size + trainer.global_rank)

    on_test_batch_start = on_validation_batch_start

    def _seed(self, trainer: Trainer, purpose: int, position: int) -> None:
        number = mixed(self.seed, purpose, position)
        torch.default_generator.manual_seed(number)
        device = trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(number)
        elif device.type != "cpu":
            torch.manual_seed(number)
        np.random.seed(number & 0xFFFFFFFF)
        random.seed(number)


def mixed(*keys: int) -> int:
    """64 bits that depend on all keys (splitmix64's finaliser over their chain), the same in every process."""
    state = 0
    for key in keys:
        state = (state + key + 0x9E3779B97F4A7C15) & _64_BITS
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _64_BITS
        state ^= state >> 31
    return state


def _size(batch: Any) -> int:
    if isinstance(batch, dict) and "key" in batch:
        return len(batch["key"])
    return len(batch) if isinstance(batch, Sized) else 1
