"""Moments go to the optimiser that they belong to, however a strategy wraps it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mmfound.errors import ConfigError
from mmfound.runs.recipe_wins import RecipeWins


class DeepSpeedZeroOptimizer_Stage3:  # noqa: N801 - DeepSpeed's name
    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups


class DeepSpeedCPUAdam(torch.optim.AdamW):
    adam_w_mode = True


def adamw(kind: type[torch.optim.Optimizer] = torch.optim.AdamW) -> Any:
    return kind(nn.Linear(1, 1).parameters(), lr=0.1)  # pyright: ignore[reportCallIssue]


def start(optimizer: Any, saved: list[str] | None = None) -> RecipeWins:
    callback, trainer = RecipeWins(), SimpleNamespace(optimizers=[optimizer], lr_scheduler_configs=[])
    if saved is not None:
        callback.load_state_dict({"optimizers": saved})
    callback.on_fit_start(trainer, SimpleNamespace())  # pyright: ignore[reportArgumentType]
    return callback


@pytest.mark.parametrize(
    "optimizer",
    [
        adamw(),
        DeepSpeedZeroOptimizer_Stage3(adamw()),
        DeepSpeedZeroOptimizer_Stage3(adamw(DeepSpeedCPUAdam)),
    ],
)
def test_the_optimiser_is_the_recipes_under_every_strategy(optimizer):
    callback = start(optimizer)
    assert callback.state_dict() == {"optimizers": ["AdamW"]}
    callback.load_state_dict({"optimizers": ["AdamW"]})  # strategies that split weights restore after the start
    start(optimizer, ["AdamW"])


@pytest.mark.parametrize("wrapped", [False, True])
def test_moments_of_another_are_refused_whenever_they_come(wrapped: bool):
    optimizer = DeepSpeedZeroOptimizer_Stage3(adamw()) if wrapped else adamw()
    with pytest.raises(ConfigError, match="the checkpoint's optimiser is SGD, the recipe's AdamW"):
        start(optimizer, ["SGD"])
    with pytest.raises(ConfigError, match="the checkpoint's optimiser is SGD, the recipe's AdamW"):
        start(optimizer).load_state_dict({"optimizers": ["SGD"]})


def test_older_checkpoints_that_name_the_wrapper_say_nothing():
    start(adamw(), ["DeepSpeedZeroOptimizer_Stage3"])
