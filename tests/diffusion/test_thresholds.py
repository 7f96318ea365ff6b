"""Thresholds and the clamp of known parts."""

import pytest
import torch
from diffusers import DDIMScheduler

from mmfound.diffusion import Ddim, Ddpm, DpmSolver2M, Dynamic, Euler, Heun, SampleNoise, Static, clamped
from mmfound.diffusion.estimates import Estimate
from mmfound.errors import ConfigError
from tests.diffusion.denoisers import Wavy, level_of, rho_levels

LEVEL = level_of(1.0)


def gives(x0):
    return lambda x_t, level: Estimate(x0, x0 * 0 + 0.5)


def test_a_static_threshold_clamps_to_its_bounds_and_leaves_variances():
    x0 = torch.tensor([[-3.0, -0.5, 0.5, 3.0]])
    held = Static((-1.0, 2.0))(gives(x0))(x0, LEVEL)
    assert held.x0.tolist() == [[-1.0, -0.5, 0.5, 2.0]]
    assert torch.equal(held.variance_fraction, x0 * 0 + 0.5)


@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.5, 100.0])
def test_a_dynamic_threshold_is_that_of_diffusers_without_its_largest_value(percentile):
    x0 = torch.randn(5, 3, 8, 8) * torch.tensor([0.1, 0.5, 1.0, 2.0, 9.0]).reshape(5, 1, 1, 1)
    theirs = DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=percentile / 100, sample_max_value=1e9)
    held = Dynamic(percentile)(gives(x0))(x0, LEVEL).x0
    torch.testing.assert_close(held, theirs._threshold_sample(x0), rtol=0, atol=0)
    assert held.abs().max() <= 1


@pytest.mark.parametrize("sampler", [Ddpm(), Ddim(), Ddim(1.0), Euler(), Heun(), DpmSolver2M()], ids=str)
def test_what_is_known_is_in_the_sample_to_the_last_digit(sampler):
    known, mask = torch.rand(4, 12), torch.arange(12) < 5
    x, levels = torch.randn(4, 12), rho_levels(8)

    def sampled(known):
        return sampler(clamped(Wavy(), known, mask), x, levels, SampleNoise(0, range(4)))

    sample = sampled(known)
    assert torch.equal(sample[:, :5], known[:, :5])
    elsewhere = known.clone()
    elsewhere[:, 5:] = 7.0
    assert torch.equal(sample, sampled(elsewhere))
    assert not torch.allclose(sample[:, 5:], sampled(-known)[:, 5:])  # the rest follows what is known


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_a_mask_of_one_channel_keeps_what_is_1(dtype):
    mask = torch.tensor([[1, 0], [0, 1]]).expand(2, 1, 2, 2).to(dtype)
    known, x0 = torch.full((2, 3, 2, 2), 5.0), torch.zeros(2, 3, 2, 2)
    held = clamped(gives(x0), known, mask)(x0, LEVEL)
    assert torch.equal(held.x0, 5.0 * mask.float().expand(2, 3, 2, 2))
    assert torch.equal(held.variance_fraction, x0 + 0.5)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"bounds are \[1.0, -1.0\]"):
        Static((1.0, -1.0))
    with pytest.raises(ConfigError, match="percentile is 0.0"):
        Dynamic(0.0)
