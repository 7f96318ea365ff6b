"""Random numbers as a function of the position in the run."""

from collections.abc import Sized
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mmfound.seeding import mixed, seed_generators

_TRAINING, _EVALUATION = 0, 1


class StepSeed(Callback):
    """Seeds torch, numpy and random before each micro-batch from (seed, position of its first sample).

    So nothing of the generators needs saving, a validation in between changes nothing, and a run on two ranks draws
    what one rank with twice the micro-batches draws. A task that encodes its batch in chunks gets a seed for each, in
    its `chunk_seeds`, as if it were a micro-batch. One that has an attribute `place` finds there where its first sample
    stands in the global batch, how many that has, and its number. Evaluation batches are keyed likewise, apart from
    training.

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
        """Seed for this rank's micro-batch, or its chunks: slices of the stream that the ranks take in turn."""
        size = _size(batch)
        together = size * trainer.world_size
        loader = getattr(getattr(trainer, "datamodule", None), "train_loader", None)
        position = getattr(loader, "position", None)
        before = self._samples if position is None else position - together
        self._samples = before + together
        slice_size = min(size, getattr(pl_module, "chunk_size", None) or size)
        starts = range(before + slice_size * trainer.global_rank, before + together, slice_size * trainer.world_size)
        self._seed(trainer, _TRAINING, starts[0])
        task: Any = pl_module
        if hasattr(task, "chunk_seeds"):
            task.chunk_seeds = [mixed(self.seed, _TRAINING, start) for start in starts]
        if hasattr(task, "place"):
            whole = getattr(getattr(trainer, "datamodule", None), "global_batch_size", together)
            begins = before % whole
            if whole % together or begins % together:  # counted in batches of another size: this one is by itself
                begins, whole = 0, together
            task.place = (begins + starts[0] - before, whole, before // whole)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """The seeds were for this batch alone."""
        task: Any = pl_module
        if hasattr(task, "chunk_seeds"):
            task.chunk_seeds = ()

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Seed for this rank's batch, equally at every validation."""
        self._seed(trainer, _EVALUATION, batch_idx * trainer.world_size + trainer.global_rank)

    on_test_batch_start = on_validation_batch_start

    def _seed(self, trainer: Trainer, purpose: int, position: int) -> None:
        seed_generators(mixed(self.seed, purpose, position), trainer.strategy.root_device)


def _size(batch: Any) -> int:
    if isinstance(batch, dict) and "key" in batch:
        return len(batch["key"])
    return len(batch) if isinstance(batch, Sized) else 1
