"""Optimiser wiring: parameter groups and learning-rate schedules."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


class Schedule(Protocol):
    """A multiple of the peak learning rate as a function of the step."""

    def __call__(self, step: int, total_steps: int) -> float:
        """Factor in [0, 1] for optimiser step `step`, counted from 0, of `total_steps`."""
        ...


@dataclass(frozen=True)
class Constant:
    """Linear warm-up, then the peak."""

    warmup_steps: int = 0

    def __call__(self, step: int, total_steps: int) -> float:
        return min(1.0, (step + 1) / max(1, self.warmup_steps))


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up, then cosine decay to `final` of the peak (Radford et al. 2021, table 18)."""

    warmup_steps: int = 2000
    final: float = 0.0

    def __call__(self, step: int, total_steps: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


@dataclass(frozen=True)
class WarmupLinear:
    """Linear warm-up, then linear decay to `final` of the peak."""

    warmup_steps: int = 2000
    final: float = 0.0

    def __call__(self, step: int, total_steps: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)
        return 1 - (1 - self.final) * min(done, 1.0)


class Optim:
    """An optimiser, its learning-rate schedule and its weight-decay groups.

    Weights with two or more dimensions decay; gains, biases, norms and temperatures do not (Radford et al. 2021,
    section 2.5).

    Args:
        optimizer: the optimiser but for its parameters.
        schedule: factor on the learning rate by step.
        no_decay: names (or ends of dotted names) of further parameters that do not decay, such as
            `positional_embedding`; OpenAI's training decayed those.
    """

    def __init__(self, optimizer: OptimizerCallable, schedule: Schedule, no_decay: Sequence[str] = ()) -> None:
        self.optimizer = optimizer
        self.schedule = schedule
        self.no_decay = tuple(no_decay)

    def build(self, module: nn.Module, total_steps: int) -> dict[str, Any]:
        """What LightningModule.configure_optimizers returns, over the trainable parameters of `module`."""
        optimizer = self.optimizer(self.groups(module))  # pyright: ignore[reportArgumentType]
        scheduler = LambdaLR(optimizer, lambda step: self.schedule(step, total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """Two parameter groups: with the optimiser's weight decay, and without."""
        trainable = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        decay = [p for name, p in trainable if self._decays(name, p)]
        rest = [p for name, p in trainable if not self._decays(name, p)]
        groups = [{"params": decay}, {"params": rest, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]

    def _decays(self, name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim >= 2 and not any(name == end or name.endswith("." + end) for end in self.no_decay)
