from pathlib import Path

import pytest
import torch
from torch import nn

from mmfound.data.captions import RandomCaption
from mmfound.diffusion.spaces import PixelSpace
from mmfound.tasks.denoising_checks import check_captions, check_rate, check_x0, memory_needed
from tests.callbacks.fakes import IGNORED
from tests.tasks.denoisers import SIZE, data

pytestmark = IGNORED


def test_samples_of_no_such_scale_are_warned_of():
    for scale, message in ((0.01, "mean square of 0.0058"), (3.0, "outside of its bounds")):
        with pytest.warns(UserWarning, match=message):
            check_x0(PixelSpace(SIZE), (torch.rand(4, 3, SIZE, SIZE) * 2 - 1) * scale)
    check_x0(PixelSpace(SIZE), torch.rand(4, 3, SIZE, SIZE) * 2 - 1)  # warnings are errors here


def test_a_rate_far_above_the_published_ones_is_warned_of():
    small, large = nn.Linear(10, 10), nn.Linear(5000, 5000)
    cases = [(small, 1e-2, "0.01 for a network of 0.0 M"), (large, 1e-3, "0.001 for a network of 25 M")]
    for module, rate, message in cases:
        with pytest.warns(UserWarning, match=message):
            check_rate(module, [torch.optim.SGD(module.parameters(), lr=rate)])
    check_rate(small, [torch.optim.SGD(small.parameters(), lr=1e-3)])
    split = nn.Linear(1, 1, bias=False)
    split.weight = nn.Parameter(torch.empty(0))
    split.weight.ds_numel, split.weight.ds_tensor = 25_000_000, torch.zeros(100)  # pyright: ignore - as ZeRO 3 does
    with pytest.warns(UserWarning, match="25 M weights"):
        check_rate(split, [torch.optim.SGD(split.parameters(), lr=1e-3)])
    assert memory_needed(split, [torch.optim.SGD(split.parameters(), lr=1e-3)], averages=False) == 100 * 4 * 2


def test_captions_that_are_cut_are_counted(tmp_path: Path):
    source = data(tmp_path)
    assert source.tokenizer is not None
    source.tokenizer.prepare(source.source.captions, tmp_path)
    check_captions(source)
    source.tokenizer.context = 4
    with pytest.warns(UserWarning, match="64 of the first 64 captions are longer"):
        check_captions(source)


def test_captions_that_are_never_picked_are_not_counted(tmp_path: Path):
    source = data(tmp_path)
    assert source.tokenizer is not None
    source.tokenizer.prepare(lambda: ["a"], tmp_path)
    source.source.captions = lambda: ["a", "a very long one " * 9] * 8  # pyright: ignore - two of each sample
    source.caption = RandomCaption([1, 0])
    check_captions(source)  # warnings are errors here
    source.caption = RandomCaption([1, 1])
    with pytest.warns(UserWarning, match="8 of the first 16 captions are longer"):
        check_captions(source)


def test_memory_is_weights_gradients_moments_and_average():
    module = nn.Linear(100, 10, bias=False)
    adamw, sgd = torch.optim.AdamW(module.parameters()), torch.optim.SGD(module.parameters(), lr=0.1)
    assert memory_needed(module, [adamw], averages=True) == 1000 * 4 * 5
    assert memory_needed(module, [sgd], averages=False) == 1000 * 4 * 2
    assert memory_needed(module.requires_grad_(False), [sgd], averages=True) == 1000 * 4
