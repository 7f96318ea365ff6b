"""What DeepSpeed is told, and what it is asked for in vain."""

from types import SimpleNamespace
from typing import Any

import pytest
import timm.optim
import torch
from torch import nn

from mmfound.errors import ConfigError
from mmfound.muon import Muon
from mmfound.runs import extensions
from mmfound.strategies import DeepSpeed
from mmfound.strategies.deepspeed import _check_optimizer, _check_task, _merge, _on_host, _prepare_to_compile


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"stage": 4}, "stage is 4; there are 1, 2 and 3"),
        ({"stage": 2, "offload_parameters": True}, "needs stage 3"),
        ({"config": {"zero_optimization": {"stage": 1}}}, "set the argument stage instead"),
        ({"config": {"zero_optimization": {"offload_param": {}}}}, "set the argument offload_parameters instead"),
    ],
)
def test_arguments_that_contradict_one_another(arguments: dict[str, Any], says: str):
    with pytest.raises(ConfigError, match=says):
        DeepSpeed(**arguments)


def test_config_takes_the_place_of_defaults_and_leaves_the_rest():
    strategy = DeepSpeed(stage=3, config={"zero_optimization": {"reduce_bucket_size": 7}, "wall_clock_breakdown": True})
    assert isinstance(strategy.config, dict)
    _merge(strategy.config, strategy.extra_config)
    assert strategy.config["zero_optimization"]["reduce_bucket_size"] == 7
    assert strategy.config["zero_optimization"]["stage"] == 3
    assert strategy.config["wall_clock_breakdown"] is True


def test_a_task_that_optimises_by_itself_is_refused():
    task: Any = SimpleNamespace(automatic_optimization=False)
    trainer: Any = SimpleNamespace(gradient_clip_val=None)
    with pytest.raises(ConfigError, match="optimises by itself .* use machines/ddp or machines/fsdp2"):
        _check_task(task, trainer)


def test_clipping_by_value_is_refused():
    task: Any = SimpleNamespace(automatic_optimization=True)
    trainer: Any = SimpleNamespace(gradient_clip_val=1.0, gradient_clip_algorithm="value")
    with pytest.raises(ConfigError, match="DeepSpeed clips by norm alone"):
        _check_task(task, trainer)


def test_offload_with_another_optimiser_is_refused():
    with pytest.raises(ConfigError, match="the recipe's optimiser is SGD"):
        _on_host(torch.optim.SGD(nn.Linear(1, 1).parameters()))


def test_an_optimiser_of_matrices_is_refused():
    weights = [nn.Linear(8, 8).weight]
    for optimizer in (Muon(weights), timm.optim.Muon(weights), torch.optim.Muon(weights)):  # pyright: ignore
        with pytest.raises(
            ConfigError, match="Muon needs weights that are matrices, .* machines/fsdp2 or machines/ddp"
        ):
            _check_optimizer(optimizer)
    _check_optimizer(torch.optim.AdamW(nn.Linear(8, 8).parameters()))


def test_a_missing_compiler_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(extensions, "missing_compiler", lambda: "a C++ compiler: apt-get install g++")
    with pytest.raises(ConfigError, match="apt-get install g.."):
        _prepare_to_compile()
