"""What `predict` leaves behind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import save_file
from torch import Tensor

from mmfound.errors import ConfigError


class Predictions(Callback):
    """Writes every rank's predictions as `rank_R.safetensors`, and the samples' keys, a line each, as `rank_R.txt`.

    Row n of every tensor belongs to line n of the keys. A task's `predict_step` returns tensors [B, ...] by name, or
    one tensor, which is then called `prediction`.

    Args:
        folder: made when missing; files of an earlier prediction are replaced.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._keys: list[str] = []
        self._parts: dict[str, list[Tensor]] = {}

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a batch's predictions, on the CPU."""
        self._keys += batch["key"]
        for name, value in _named(outputs, pl_module).items():
            self._parts.setdefault(name, []).append(value.float().cpu())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rank = self.folder / f"rank_{trainer.global_rank}"
        tensors = {name: torch.cat(parts).contiguous() for name, parts in self._parts.items()}
        save_file(tensors, rank.with_suffix(".safetensors"))
        rank.with_suffix(".txt").write_text("".join(f"{key}\n" for key in self._keys), encoding="utf-8")
        self._keys, self._parts = [], {}


def _named(outputs: Any, task: LightningModule) -> dict[str, Tensor]:
    if isinstance(outputs, Tensor):
        return {"prediction": outputs}
    if isinstance(outputs, Mapping):
        return {name: value for name, value in outputs.items() if isinstance(value, Tensor)}
    raise ConfigError(
        f"predict_step of {type(task).__name__} returned {type(outputs).__name__}; "
        "return a tensor [B, ...], or a dict of them by name."
    )
