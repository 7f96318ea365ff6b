"""Runs the recipe's evaluators in fit, validate and test."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor
from torch.distributed.tensor import DTensor

from mmfound import distributed
from mmfound.errors import ConfigError
from mmfound.evaluation.evaluator import Evaluator


class Evaluations(Callback):
    """Runs evaluators at every validation, after the last step, and in validate and test.

    Their metrics are logged as `val/{name}_{metric}` or `test/...`. A recipe without a validation source has
    validations all the same, of evaluators alone.

    Args:
        evaluators: with distinct names where they are of one class.

    Raises:
        ConfigError: when two would log the same.
    """

    def __init__(self, evaluators: Sequence[Evaluator] = ()) -> None:
        self.evaluators = list(evaluators)
        self._evaluated_step = -1
        seen = set()
        for evaluator in self.evaluators:
            kind = (type(evaluator), evaluator.name)
            if kind in seen:
                raise ConfigError(
                    f"evaluators: two {type(evaluator).__name__} have the name {evaluator.name!r} and would log the "
                    "same metrics; give each a `name` of its own."
                )
            seen.add(kind)

    def state_dict(self) -> dict[str, Any]:
        """So that a run that was ended before it could end properly does not evaluate twice."""
        return {"evaluated_step": self._evaluated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on."""
        self._evaluated_step = int(state_dict["evaluated_step"])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what the evaluators would refuse, before the first step."""
        data = _data(trainer)
        if not self.evaluators:
            return
        if data is None:
            raise ConfigError("evaluators need a DataModule, but the trainer was given loaders. Use ImageTextData.")
        for evaluator in self.evaluators:
            evaluator.check(pl_module, data)
        for split in {"fit": ["val"], "validate": ["val"], "test": ["test"]}.get(stage, []):
            _always_run(data, pl_module, split)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give DataModule and task their own methods back."""
        for owner in (_data(trainer), pl_module):
            for name in ("val_dataloader", "test_dataloader", "validation_step", "test_step"):
                vars(owner).pop(name, None) if owner is not None else None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All ranks validate with the same running statistics; DDP alone sees to that by itself."""
        share_buffers(pl_module)

    on_test_start = on_validation_start

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate and log as `val/*`."""
        if not trainer.sanity_checking:
            self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate and log as `test/*`."""
        self._log(trainer, pl_module, "test")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the last step, unless a validation has."""
        finished = 0 < trainer.max_steps <= trainer.global_step
        if not (self.evaluators and finished and trainer.enable_validation):
            return
        if self._evaluated_step == trainer.global_step:
            return
        metrics = self.evaluate(trainer, pl_module, "val")
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)  # gone again when the run goes on
            logger.save()

    def evaluate(self, trainer: Trainer, pl_module: LightningModule, split: str) -> dict[str, float]:
        """Metrics of all evaluators under the names they are logged by."""
        metrics: dict[str, float] = {}
        with evaluating(trainer, pl_module):
            for evaluator in self.evaluators:
                prefix = f"{split}/{evaluator.name}_" if evaluator.name else f"{split}/"
                found = evaluator.evaluate(pl_module, _data(trainer))
                metrics |= {prefix + name: float(value) for name, value in found.items()}
                for kind, sheet in evaluator.sheets.items() if trainer.is_global_zero else ():
                    show(trainer, f"samples/{prefix}{kind}", f"{prefix}{kind}_step".replace("/", "_"), sheet)
        self._evaluated_step = trainer.global_step
        return metrics

    def _log(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        for name, value in self.evaluate(trainer, pl_module, split).items():
            pl_module.log(name, value, sync_dist=trainer.world_size > 1)


@contextmanager
def evaluating(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Eval mode, no gradients, the trainer's autocast; modes and generators are afterwards as they were before."""
    modes = [(part, part.training) for part in module.modules()]
    device = trainer.strategy.root_device
    cuda = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()
    module.eval()
    share_buffers(module)
    try:
        with torch.random.fork_rng(devices=cuda), torch.no_grad(), trainer.precision_plugin.forward_context():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for part, training in modes:
            part.training = training


@torch.no_grad()
def share_buffers(module: torch.nn.Module) -> None:
    """Give all ranks the first one's buffers, as DDP does before a forward pass.

    Evaluators call the module inside DDP, and running statistics of batch normalisation differ by rank after a step.
    """
    for buffer in module.buffers() if distributed.world_size() > 1 else ():
        if buffer.is_floating_point() and not isinstance(buffer, DTensor):
            dist.broadcast(buffer, 0)


def show(trainer: Trainer, tag: str, file: str, sheet: Image.Image) -> None:
    """Put a sheet of pictures into `samples/` of the run folder and into TensorBoard; on the first rank.

    Args:
        trainer: whose step it is of.
        tag: in TensorBoard.
        file: its name, to which the step is added.
        sheet: to show.
    """
    folder = Path(trainer.default_root_dir) / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / f"{file}_{trainer.global_step}.png")
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, np.asarray(sheet), trainer.global_step, dataformats="HWC")


class _OneEmptyBatch:
    """Keeps Lightning from leaving a validation out because there are no samples."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        yield {}


def _always_run(data: Any, module: Any, split: str) -> None:
    """Let validation run without a source: Lightning skips the whole of it, hooks included, where there are no batches.

    The stand-ins live on the instances, until `teardown`.
    """
    step_name = {"val": "validation_step", "test": "test_step"}[split]
    loader, step = getattr(data, f"{split}_dataloader"), getattr(module, step_name)

    def loader_or_one_empty_batch() -> Any:
        found = loader()
        return _OneEmptyBatch() if isinstance(found, (list, tuple)) and not found else found

    def step_unless_empty(batch: Any, batch_idx: int) -> Any:
        return step(batch, batch_idx) if batch else None

    setattr(data, f"{split}_dataloader", loader_or_one_empty_batch)
    setattr(module, step_name, step_unless_empty)


def _data(trainer: Trainer) -> Any:
    return getattr(trainer, "datamodule", None)
