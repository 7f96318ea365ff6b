"""Noise is a function of seed, purpose, sample and number of the draw."""

import torch

from mmfound.diffusion import SampleNoise

LIKE = torch.empty(4, 3, 5)


def test_a_sample_draws_the_same_in_any_batch_and_order():
    together = SampleNoise(7, [3, 0, 9, 12])
    first, second = together.draw(LIKE), together.draw(LIKE)
    for row, index in enumerate([3, 0, 9, 12]):
        alone = SampleNoise(7, [index])
        assert torch.equal(alone.draw(LIKE[:1])[0], first[row])
        assert torch.equal(alone.draw(LIKE[:1])[0], second[row])
    assert torch.equal(SampleNoise(7, [12, 3]).draw(LIKE[:2]), first[[3, 0]])


def test_seeds_purposes_samples_and_draws_are_independent():
    rows = [SampleNoise(seed, [index], purpose) for seed in (0, 1) for purpose in (0, 1) for index in (0, 1, 2)]
    drawn = torch.stack([noise.draw(torch.empty(1, 4000))[0] for noise in rows for _ in range(2)])
    correlation = torch.corrcoef(drawn) - torch.eye(len(drawn))
    assert correlation.abs().max() < 5 / 4000**0.5
    assert drawn.mean().abs() < 4 / drawn.numel() ** 0.5
    assert (drawn.std() - 1).abs() < 4 / (2 * drawn.numel()) ** 0.5


def test_global_generators_neither_matter_nor_move():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    drawn = SampleNoise(5, [1]).draw(LIKE[:1])
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(drawn, SampleNoise(5, [1]).draw(LIKE[:1]))


def test_every_dtype_gets_the_same_numbers():
    single, double = (
        SampleNoise(5, [1]).draw(torch.empty(1, 6, dtype=dtype)) for dtype in (torch.float32, torch.float64)
    )
    assert double.dtype == torch.float64
    assert torch.equal(single.double(), double)
