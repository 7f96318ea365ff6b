import copy

import pytest
import timm.optim
import torch
from timm.optim import muon
from torch import Tensor, nn

from mmfound.muon import Muon

RATE, DECAY = 0.01, 0.1


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(24, 10)).double()


def loss(made: nn.Module) -> Tensor:
    x = torch.randn(16, 8, 4, 4, generator=torch.Generator().manual_seed(1)).double()
    return made(x).square().sum()


def orthogonalized(matrix: Tensor) -> Tensor:
    """Jordan et al. 2024, five steps of the quintic iteration."""
    x = matrix / matrix.norm()
    x = x.T if len(matrix) > matrix.shape[1] else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if len(matrix) > matrix.shape[1] else x


def test_two_steps_are_the_published_ones_in_the_weights_own_precision():
    made = network()
    optimizer = Muon(
        made.parameters(), lr=RATE, weight_decay=DECAY, momentum=0.9, nesterov=True, ns_coefficients="original"
    )
    conv, linear = made[0].weight, made[2].weight  # pyright: ignore
    weights, means = [weight.detach().clone() for weight in (conv, linear)], [0.0, 0.0]
    for _ in range(2):
        optimizer.zero_grad()
        loss(made).backward()
        for place, weight in enumerate((conv, linear)):
            means[place] = 0.9 * means[place] + 0.1 * weight.grad  # pyright: ignore
            update = (0.9 * means[place] + 0.1 * weight.grad).flatten(1)  # pyright: ignore
            step = 0.2 * max(update.shape) ** 0.5 * orthogonalized(update).reshape(weight.shape)  # pyright: ignore
            weights[place] = weights[place] * (1 - RATE * DECAY) - RATE * step
        optimizer.step()
    torch.testing.assert_close(conv.detach(), weights[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(linear.detach(), weights[1], rtol=1e-9, atol=1e-9)


def test_biases_have_the_steps_of_adamw():
    one, other = network(), network()
    optimizers = [
        Muon(one.parameters(), lr=RATE, weight_decay=DECAY, betas=(0.9, 0.99)),
        torch.optim.AdamW(other.parameters(), lr=RATE, weight_decay=DECAY, betas=(0.9, 0.99), eps=1e-7),
    ]
    for made, optimizer in zip((one, other), optimizers, strict=True):
        loss(made).backward()
        optimizer.step()
    torch.testing.assert_close(one[0].bias, other[0].bias)  # pyright: ignore
    assert not torch.allclose(one[0].weight, other[0].weight)  # pyright: ignore


def test_it_goes_on_from_its_state():
    whole = network()
    optimizer = Muon(whole.parameters(), lr=RATE, nesterov=True)
    for step in range(4):
        if step == 2:
            again, state = copy.deepcopy(whole), copy.deepcopy(optimizer.state_dict())
        optimizer.zero_grad()
        loss(whole).backward()
        optimizer.step()
    other = Muon(again.parameters(), lr=RATE, nesterov=True)
    other.load_state_dict(state)
    for _ in range(2):
        other.zero_grad()
        loss(again).backward()
        other.step()
    for mine, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_timm_itself_is_left_as_it_is():
    before = muon.zeropower_via_newtonschulz
    made = network()
    loss(made).backward()
    Muon(made.parameters(), lr=RATE).step()
    with pytest.raises(ZeroDivisionError):
        Muon(made.parameters(), lr=RATE).step(lambda: 1 / 0)  # pyright: ignore
    assert muon.zeropower_via_newtonschulz is before
    assert issubclass(Muon, timm.optim.Muon)  # pyright: ignore
