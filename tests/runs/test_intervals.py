"""Validation intervals under accumulation."""

from types import SimpleNamespace
from typing import Any

import pytest

from mmfound.runs.intervals import StepIntervals


@pytest.mark.parametrize(("interval", "accumulation", "expected"), [(100, 4, 400), (100, 1, 100), (0.5, 4, 0.5)])
def test_integer_interval_counts_steps(interval: Any, accumulation: int, expected: Any):
    trainer: Any = SimpleNamespace(val_check_interval=interval, accumulate_grad_batches=accumulation)
    callback = StepIntervals()
    for _ in range(2):
        callback.setup(trainer, None, "fit")  # pyright: ignore[reportArgumentType]
    assert trainer.val_check_interval == expected
