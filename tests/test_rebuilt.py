"""Frozen parts that are built with their weights stay out of checkpoints, and nothing else does."""

from typing import Any

import pytest
import torch
from torch import nn

from mmfound.rebuilt import KeepsRebuiltOut
from mmfound.strategies.loading import load_weights


class Reader(nn.Module):
    rebuilt = ("tower",)

    def __init__(self) -> None:
        super().__init__()
        self.tower, self.towering = nn.Linear(2, 3), nn.Linear(3, 3)


class Whole(KeepsRebuiltOut):
    def __init__(self) -> None:
        super().__init__()
        self.stage: Any = nn.ModuleList([Reader(), nn.Linear(1, 1)])


KEPT = {f"stage.{part}.{kind}" for part in ("0.towering", "1") for kind in ("weight", "bias")}


def test_the_state_has_all_but_the_tower_and_a_part_has_that_too():
    task = Whole()
    assert task.state_dict().keys() == KEPT
    assert task.state_dict(prefix="task.").keys() == {f"task.{name}" for name in KEPT}
    assert nn.ModuleList([task]).state_dict().keys() == {f"0.{name}" for name in KEPT}
    assert "0.tower.weight" in task.stage.state_dict()


@pytest.mark.parametrize("how", [lambda task, state: task.load_state_dict(state), load_weights], ids=["one", "split"])
@pytest.mark.parametrize("holds_towers", [False, True])
def test_a_state_is_loaded_and_the_tower_stays_as_it_was_built(how, holds_towers: bool):
    task, other = Whole(), Whole()
    own = task.stage[0].tower.weight.clone()
    state = nn.Module.state_dict(other) if holds_towers else other.state_dict()
    assert ("stage.0.tower.weight" in state) == holds_towers
    how(task, state)
    assert torch.equal(task.stage[0].towering.weight, other.stage[0].towering.weight)
    assert torch.equal(task.stage[0].tower.weight, own)


def test_what_else_is_missing_or_too_much_is_still_named():
    task = Whole()
    state = task.state_dict()
    with pytest.raises(RuntimeError, match="Missing key.*stage.1.bias"):
        task.load_state_dict({name: value for name, value in state.items() if name != "stage.1.bias"})
    with pytest.raises(RuntimeError, match="Unexpected key.*stage.2.bias"):
        task.load_state_dict({**state, "stage.2.bias": torch.zeros(1)})
