"""Optimiser wiring: parameter groups and learning-rate schedules."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lightning.pytorch.cli import OptimizerCallable
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from mmfound.rates import Rates

_FACTOR = "rate"  # of a parameter group, until it is built


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
        rates: multiples of the learning rate by weight, such as `mmfound.rates.LayerDecay`; by default all have it.
    """

    def __init__(
        self,
        optimizer: OptimizerCallable,
        schedule: Schedule,
        no_decay: Sequence[str] = (),
        rates: Rates | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.schedule = schedule
        self.no_decay = tuple(no_decay)
        self.rates = rates

    def build(self, module: nn.Module, total_steps: int) -> dict[str, Any]:
        """What LightningModule.configure_optimizers returns, over the trainable parameters of `module`."""
        optimizer = self.optimizer(self.groups(module))  # pyright: ignore[reportArgumentType]
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * group.pop(_FACTOR, 1.0)
        scheduler = LambdaLR(optimizer, lambda step: self.schedule(step, total_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups: with the optimiser's weight decay, and without; for each rate, the highest first."""
        trainable = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        factors = self.rates(module) if self.rates is not None else {}
        groups: list[dict[str, Any]] = []
        for factor in sorted(set(factors.values()), reverse=True) or [1.0]:
            mine = [(name, p) for name, p in trainable if factors.get(name, 1.0) == factor]
            decay = [p for name, p in mine if self._decays(name, p)]
            rest = [p for name, p in mine if not self._decays(name, p)]
            own = {_FACTOR: factor} if factors else {}
            groups += [{"params": decay, **own}, {"params": rest, "weight_decay": 0.0, **own}]
        return [group for group in groups if group["params"]]

    def _decays(self, name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim >= 2 and not any(name == end or name.endswith("." + end) for end in self.no_decay)
