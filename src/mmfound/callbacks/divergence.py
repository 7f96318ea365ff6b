"""Losses and gradients that are not finite: found, named, and kept out of the weights that are saved."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_warn
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from mmfound.errors import ConfigError, DivergedError, GoesBack
from mmfound.runs.agreement import Agreement
from mmfound.strategies.weights import trained_weights, weight

Policy = Literal["stop", "skip", "rollback"]


@dataclass
class _Step:
    """What one optimiser step was made of."""

    position: int  # samples handed out before it, over all ranks
    number: int
    losses: list[Tensor] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    norms: Tensor | None = None  # of every gradient
    finite: Tensor | None = None  # on the host, once `ready`
    ready: torch.cuda.Event | None = None

    def is_bad(self) -> bool:
        if self.ready is not None:
            self.ready.synchronize()  # a step old: it has passed
        return self.finite is not None and not bool(self.finite)


class RolledBack(GoesBack):
    """The run is to go back to its newest checkpoint and leave out the batch at `position`."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


class Divergence(Callback):
    """Acts when a loss or a gradient is NaN or infinite.

    `stop` ends the run with exit code 5. `skip` leaves the optimiser step out; all ranks wait for one another at every
    step to agree on it. `rollback` goes back to the newest checkpoint and leaves the batch out from then on; after
    `max_rollbacks` it stops. A checkpoint never holds what came of such a step. There is no wait for the device: there
    and on several ranks the answer comes a step late. Under a gradient scaler infinite gradients are its own business.

    Args:
        policy: what to do.
        max_rollbacks: in one start of the command.
    """

    def __init__(self, policy: Policy = "stop", max_rollbacks: int = 3) -> None:
        self.policy = policy
        self.max_rollbacks = max_rollbacks
        self.rollbacks = 0
        self.skipped = 0
        self.agreement: Agreement | None = None
        self._step: _Step | None = None
        self._before: _Step | None = None
        self._names: list[str] = []
        self._buffers: dict[str, Tensor] = {}
        self._module: nn.Module | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the agreement of the ranks."""
        self._step = self._before = None
        self._module = pl_module
        for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
            if isinstance(callback, Agreement):
                self.agreement = callback
        if self.agreement is not None:
            self.agreement.says["diverged"] = self._bad_position
        if stage == "fit" and self.policy != "stop" and isinstance(trainer.strategy, DeepSpeedStrategy):
            raise ConfigError(
                f"divergence.policy is {self.policy}, which DeepSpeed cannot do: it steps by itself, and does not load "
                "a checkpoint into a run that has begun; use stop"
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note what the step is made of."""
        if self._step is None or self._step.number != trainer.global_step + 1:
            self._before, self._step = self._step, _Step(_position(trainer), trainer.global_step + 1)
            if self.policy == "skip":
                self._buffers = {name: value.detach().clone() for name, value in pl_module.named_buffers()}
        self._step.keys += list(batch.get("key", [])) if isinstance(batch, dict) else []

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note the loss."""
        if self._step is not None:
            self._step.losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Look at losses and gradients."""
        step = self._step
        if step is None:
            return
        finite = torch.stack([loss.float() for loss in step.losses]).isfinite().all()
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            step.norms = self._norms(pl_module)
            finite = finite & step.norms.isfinite().all() if step.norms is not None else finite
        step.finite, step.ready = _to_host(finite)
        if self.policy == "skip":
            self._skip_if_bad(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """Act on what the ranks agree on."""
        if not trainer.fit_loop._should_accumulate():
            self.act()
            self._look_at_norm(trainer)

    def _look_at_norm(self, trainer: Trainer) -> None:
        """Where the strategy keeps the gradients to itself, after the step."""
        engine: Any = trainer.model
        norm = getattr(engine, "get_global_grad_norm", lambda: None)()
        if norm is None or self._step is None or engine.fp16_enabled():  # infinite where its scaler left a step out
            return
        norm = torch.as_tensor(norm)
        finite = norm.isfinite() & (norm >= 0)  # below zero, DeepSpeed says the same
        before = self._step.finite
        self._step.finite, self._step.ready = _to_host(finite if before is None else finite & before.to(norm.device))

    def act(self) -> None:
        """Stop or roll back if the ranks agree that something is not finite.

        Raises:
            DivergedError: to stop.
            RolledBack: to go back.
        """
        agreed = self.agreement.agreed["diverged"] if self.agreement is not None else 0
        if not agreed:
            return
        message = self._report()
        if self.policy != "rollback":
            raise DivergedError(f"{message}. Lower the learning rate, or set --divergence.policy rollback")
        if self.rollbacks >= self.max_rollbacks:
            raise DivergedError(f"{message}, after {self.rollbacks} rollbacks. Lower the learning rate")
        self.rollbacks += 1
        raise RolledBack(agreed - 1, message)

    def _bad_position(self) -> int:
        """1 + the position of a step that went wrong on this rank, 0 for none."""
        bad = self._bad_step()
        if bad is not None and self.policy != "skip":
            return bad.position + 1
        sure = self.agreement is not None and self.agreement.sure
        if sure and self._step is not None and not self._weights_are_finite():
            return self._step.position + 1
        return 0

    def _bad_step(self) -> _Step | None:
        on_device = self._step is not None and self._step.ready is not None
        on_device = on_device and not (self.agreement is not None and self.agreement.sure)
        steps = [self._before] if on_device else [self._before, self._step]
        return next((step for step in steps if step is not None and step.is_bad()), None)

    def _weights_are_finite(self) -> bool:
        found = trained_weights(self._module).values() if self._module is not None else ()
        masters = [weight.master for weight in found if isinstance(weight.tensor, nn.Parameter)]
        weights = [master for master in masters if master.numel()]
        norms = [norm.float() for norm in torch._foreach_norm(weights)] if weights else []
        return not norms or bool(torch.stack(norms).isfinite().all())

    def _skip_if_bad(self, module: LightningModule) -> None:
        assert self._step is not None
        bad = torch.tensor(int(self._step.is_bad()))
        if self.agreement is not None:
            bad = self.agreement.largest(bad)
        if not bad:
            return
        self.skipped += 1
        rank_zero_warn(f"{self._report()}. The step is left out ({self.skipped} so far).")
        for parameter in module.parameters():
            parameter.grad = None
        for name, value in module.named_buffers():
            value.copy_(self._buffers[name])
        self._step.finite = torch.tensor(True)

    def _report(self) -> str:
        step = self._bad_step()
        if step is None:
            return "a weight, or a loss or gradient on another rank, is not finite"
        losses = ", ".join(f"{float(loss):g}" for loss in step.losses)
        parts = [f"step {step.number}: loss {losses}"]
        if step.norms is not None:
            odd = [name for name, norm in zip(self._names, step.norms.tolist(), strict=True) if norm - norm != 0]
            parts.append(
                f"{len(odd)} of {len(self._names)} gradients not finite" + (f" (first {odd[0]})" if odd else "")
            )
        parts.append(
            f"samples {step.position} and on: {', '.join(step.keys[:4])}{', ...' if len(step.keys) > 4 else ''}"
        )
        return "; ".join(parts)

    def _norms(self, module: nn.Module) -> Tensor | None:
        found = ((name, weight(p.grad).master) for name, p in module.named_parameters() if p.grad is not None)
        named = [(name, gradient) for name, gradient in found if gradient.numel()]
        self._names = [name for name, _ in named]
        return (
            torch.stack([norm.float() for norm in torch._foreach_norm([grad for _, grad in named])]) if named else None
        )


def _position(trainer: Trainer) -> int:
    """Samples handed out before the batch in hand."""
    loader = getattr(getattr(trainer, "datamodule", None), "train_loader", None)
    return 0 if loader is None else loader.position - loader.span


def _to_host(flag: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """The flag on the host, and what tells that it has arrived."""
    if flag.device.type != "cuda":
        return flag, None
    host = torch.empty((), dtype=flag.dtype, pin_memory=True).copy_(flag, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return host, event
