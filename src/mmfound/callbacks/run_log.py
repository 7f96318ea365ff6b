"""The numbers every run logs beside its losses."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from mmfound.callbacks.throughput import Throughput, samples_in


class RunLog(Callback):
    """Logs, whenever the trainer logs: learning rate, gradient norm, samples so far, samples/s, wait for data.

    Under `train/`: `lr` (of the first parameter group), `grad_norm` (of all trainable parameters, before clipping),
    `samples`, `samples_per_second` and `data_wait_share` (both since the last log, evaluations left out).
    """

    def __init__(self) -> None:
        self._all = Throughput()
        self._start = Throughput()  # counts when this start of the run began
        self._window = Throughput()  # counts at the last log
        self._steps = 0
        self._at_step: dict[str, float | Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """Totals over all starts of the run."""
        return {"samples": self._all.samples, "seconds": self._all.seconds, "waited": self._all.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._all = Throughput(**state_dict)

    def totals(self) -> dict[str, float]:
        """steps, samples and seconds of all starts; samples_per_second and data_wait_share of this one."""
        start = self._all.since(self._start)
        return {
            "steps": self._steps,
            "samples": self._all.samples,
            "seconds": self._all.seconds,
            "samples_per_second": start.samples_per_second,
            "data_wait_share": start.wait_share,
        }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._steps = trainer.global_step
        self._start, self._window = self._all.copy(), self._all.copy()
        self._all.run(trainer)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Note what the step is made with, where it will be logged."""
        if _is_logged(trainer, trainer.global_step + 1):
            norm = gradient_norm(pl_module)
            self._at_step = {"train/lr": optimizer.param_groups[0]["lr"]}
            self._at_step |= {} if norm is None else {"train/grad_norm": norm}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log at the end of a window."""
        self._all.count(trainer, samples_in(trainer, batch))
        if trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        if not _is_logged(trainer, self._steps):
            return
        window = self._all.since(self._window)
        self._window = self._all.copy()
        rates = {
            "train/samples": float(self._all.samples),
            "train/samples_per_second": window.samples_per_second,
            "train/data_wait_share": window.wait_share,
        }
        pl_module.log_dict(self._at_step | _deepspeed_norm(trainer) | rates, batch_size=1)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluations are not throughput."""
        self._all.pause(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._all.run(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._all.pause(trainer)


def gradient_norm(module: torch.nn.Module) -> Tensor | None:
    """Euclidean norm of all gradients, a scalar; None where there are none (DeepSpeed keeps its own)."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    if not gradients:
        return None
    norm = torch.nn.utils.get_total_norm(gradients, foreach=None)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _deepspeed_norm(trainer: Trainer) -> dict[str, float]:
    get = getattr(trainer.model, "get_global_grad_norm", None)
    norm = get() if get is not None else None
    return {} if norm is None else {"train/grad_norm": float(norm)}


def _is_logged(trainer: Trainer, step: int) -> bool:
    every = int(getattr(trainer, "log_every_n_steps", 0))
    return every > 0 and step % every == 0
