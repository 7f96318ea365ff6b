"""bfloat16 only where it is not far slower than float32."""

import time

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision, Precision

from mmfound.cli.report import say

_TOO_SLOW = 4.0  # with instructions for bfloat16 it is 0.5 to 1.5; where torch emulates it, 20 to 100
_SIDE = 128
_REPEATS = 3


def compute_in_float32_if_faster(trainer: Trainer) -> None:
    """Take a processor without instructions for bfloat16 out of `bf16-mixed`, and say so.

    Weights, moments and checkpoints are in float32 either way. Strategies with a precision of their own (FSDP2,
    DeepSpeed) and every other precision stay as they are.

    Args:
        trainer: before it runs.
    """
    plugin = trainer.strategy.precision_plugin
    if type(plugin) is not MixedPrecision or plugin.precision != "bf16-mixed":
        return
    if trainer.strategy.root_device.type != "cpu":
        return
    slower = bfloat16_slowdown()
    if slower > _TOO_SLOW:
        trainer.strategy.precision_plugin = Precision()
        say(
            f"precision bf16-mixed: this processor multiplies bfloat16 {slower:.0f} times slower than float32, so the "
            "run computes in float32 (to say so yourself: --trainer.precision 32-true)"
        )


def bfloat16_slowdown() -> float:
    """Time of a small matrix product in bfloat16 over that in float32, on the CPU."""
    return _seconds(torch.bfloat16) / _seconds(torch.float32)


def _seconds(dtype: torch.dtype) -> float:
    """The shortest of a few, after one that sets things up."""
    matrix = torch.ones(_SIDE, _SIDE, dtype=dtype)
    times = []
    for _ in range(1 + _REPEATS):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        times.append(time.perf_counter() - start)
    return min(times[1:])
