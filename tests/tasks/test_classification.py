"""Supervised classification."""

import math

import pytest
import torch
from torch import nn

from mmfound.abilities import Classifies
from mmfound.optim import Constant, Optim
from mmfound.tasks import Classification


class FixedLogits(nn.Module):
    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(image), -1)


def task(logits: list[float], label_smoothing: float = 0.0) -> Classification:
    optim = Optim(lambda groups: torch.optim.SGD(groups, lr=0.1), Constant())
    return Classification(FixedLogits(torch.tensor(logits)), optim, label_smoothing)


def batch(labels: list[int]) -> dict:
    return {
        "key": [str(label) for label in labels],
        "image": torch.rand(len(labels), 3, 4, 4),
        "label": torch.tensor(labels),
    }


def test_loss_is_the_negative_log_probability_of_the_label():
    losses = task([0.0, math.log(3.0)]).compute_losses(batch([1, 1, 0]))
    assert losses["loss"].item() == pytest.approx(-(2 * math.log(0.75) + math.log(0.25)) / 3, rel=1e-6)
    assert losses["top1"].item() == pytest.approx(2 / 3)


def test_label_smoothing_spreads_the_target():
    smooth = task([0.0, math.log(3.0)], label_smoothing=0.2).compute_losses(batch([1]))["loss"].item()
    assert smooth == pytest.approx(-(0.9 * math.log(0.75) + 0.1 * math.log(0.25)), rel=1e-6)


def test_it_classifies():
    assert isinstance(task([0.0, 1.0]), Classifies)
