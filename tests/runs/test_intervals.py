"""Validation intervals under accumulation."""

from types import SimpleNamespace
from typing import Any

import pytest

from mmfound.runs.intervals import StepIntervals


@pytest.mark.parametrize(("batches", "accumulation", "expected"), [(6, 4, 8), (8, 4, 8), (6, 1, 6)])
def test_a_share_of_an_epoch_ends_with_a_step(batches: int, accumulation: int, expected: int):
    settings = {"val_check_interval": 0.5, "val_check_batch": batches, "accumulate_grad_batches": accumulation}
    trainer: Any = SimpleNamespace(**settings)
    StepIntervals().on_train_start(trainer, None)  # pyright: ignore[reportArgumentType]
    assert trainer.val_check_batch == expected


@pytest.mark.parametrize(("interval", "accumulation", "expected"), [(100, 4, 400), (100, 1, 100), (0.5, 4, 0.5)])
def test_integer_interval_counts_steps(interval: Any, accumulation: int, expected: Any):
    trainer: Any = SimpleNamespace(val_check_interval=interval, accumulate_grad_batches=accumulation)
    callback = StepIntervals()
    for _ in range(2):
        callback.setup(trainer, None, "fit")  # pyright: ignore[reportArgumentType]
    assert trainer.val_check_interval == expected
