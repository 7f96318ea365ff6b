"""Checkpoints that are folders, written by all ranks."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import Strategy
from torch import nn

from mmfound.strategies.scan import scan_folder

META = "meta.pt"  # what is no weight and no moment, as Lightning names it
FACTS = "mmfound"
_BYTES_PER_WEIGHT = 18  # float32 weight, two moments and average, and a copy in half precision


class FolderSaving(Strategy):
    """A strategy that saves folders through the run's own checkpoint writer, which makes them durable.

    Where another writer is in place, folders are written as Lightning does.
    """

    trusted: bool = False  # whether checkpoints may run code; set where the user has said so

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Write this rank's part; all ranks call it."""
        save_folder = getattr(self.checkpoint_io, "save_folder", None)
        if save_folder is None:
            self.fill(checkpoint, Path(filepath))
            return
        assert self.model is not None
        size = _BYTES_PER_WEIGHT * sum(_numel(p) for p in self.model.parameters())
        facts = checkpoint.get(FACTS, {})
        save_folder(Path(filepath), size, facts, lambda folder: self.fill(checkpoint, folder), self)

    def fill(self, checkpoint: dict[str, Any], folder: Path) -> None:
        """Write this rank's files of a checkpoint into an empty folder."""
        raise NotImplementedError

    def scan(self, folder: Path) -> None:
        """Refuse a folder whose pickles would run code, unless it is trusted."""
        if not self.trusted:
            scan_folder(folder)

    def write_meta(self, checkpoint: dict[str, Any], folder: Path) -> None:
        """What every rank reads when the run goes on, on the first rank."""
        if self.is_global_zero:
            torch.save(checkpoint, folder / META)


def _numel(parameter: nn.Parameter) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))
