"""The average of the weights."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mmfound.callbacks import Ema
from mmfound.callbacks.ema import average_in
from mmfound.errors import ConfigError

TRAINER: Any = SimpleNamespace(global_step=0, is_global_zero=True)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)


def trained(ema: Ema, steps: int) -> tuple[Net, list[torch.Tensor]]:
    """A net whose weights are set to a new value at every step, and those values."""
    net, values = Net(), []
    trainer: Any = SimpleNamespace(global_step=0, state=SimpleNamespace(fn="fit"))
    ema.on_train_start(trainer, net)  # pyright: ignore[reportArgumentType]
    values.append(net.layer.weight.detach().clone())
    for step in range(1, steps + 1):
        net.layer.weight.data.normal_()
        values.append(net.layer.weight.detach().clone())
        for global_step in (step - 1, step):  # a micro-batch that is no step does not count
            trainer.global_step = global_step
            ema.on_train_batch_end(trainer, net)  # pyright: ignore[reportArgumentType]
    return net, values


def test_equals_the_recurrence_with_and_without_warm_up():
    for warmup in (True, False):
        ema = Ema(0.9, warmup=warmup)
        _, values = trained(ema, 30)
        expected = values[0].double()
        for step, value in enumerate(values[1:], start=1):
            decay = min(0.9, (1 + step) / (10 + step)) if warmup else 0.9
            expected = decay * expected + (1 - decay) * value.double()
        assert torch.allclose(ema.average["layer.weight"].double(), expected, atol=1e-6)


def test_averages_what_trains_and_float_buffers_by_name():
    ema = Ema()
    trained(ema, 1)
    assert set(ema.average) == {
        "layer.weight", "layer.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
    }  # fmt: skip


def test_a_save_while_swapped_has_the_weights_under_their_names():
    ema = Ema(0.9)
    net, values = trained(ema, 5)
    with ema.swapped(net):
        assert torch.equal(net.layer.weight, ema.average["layer.weight"])
        checkpoint: dict[str, Any] = {"state_dict": dict(net.state_dict())}
        ema.on_save_checkpoint(TRAINER, net, checkpoint)  # pyright: ignore[reportArgumentType]
    assert torch.equal(checkpoint["state_dict"]["layer.weight"], values[-1])
    assert torch.equal(net.layer.weight, values[-1])
    assert torch.equal(average_in(checkpoint)["layer.weight"], ema.average["layer.weight"])


def test_goes_on_from_a_checkpoint():
    one, other = Ema(0.9), Ema(0.9)
    net, _ = trained(one, 5)
    checkpoint: dict[str, Any] = {"state_dict": dict(net.state_dict())}
    one.on_save_checkpoint(TRAINER, net, checkpoint)  # pyright: ignore[reportArgumentType]
    other.on_load_checkpoint(None, net, checkpoint)  # pyright: ignore[reportArgumentType]
    other.on_train_start(TRAINER, net)
    assert other.steps == 5
    assert all(torch.equal(one.average[name], other.average[name]) for name in one.average)


def test_half_precision_weights_are_averaged_in_float32():
    net = Net().to(torch.bfloat16)
    ema = Ema(0.9999, warmup=False)
    ema.on_train_start(TRAINER, net)  # pyright: ignore[reportArgumentType]
    assert ema.average["layer.weight"].dtype == torch.float32


def test_refuses_a_decay_that_never_forgets():
    with pytest.raises(ConfigError, match="decay is 1"):
        Ema(1.0)
