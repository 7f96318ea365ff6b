"""What a denoiser is trained to minimise, sample by sample, and which noise levels each of them gets."""

import math

import torch
from torch import Tensor

from mmfound.diffusion.levels import Level, spread
from mmfound.diffusion.loss_weights import LossWeight
from mmfound.diffusion.predictions import Prediction
from mmfound.diffusion.schedules import Schedule
from mmfound.diffusion.variances import FixedSmall, LearnedRange, mean_factor
from mmfound.errors import ConfigError
from mmfound.seeding import mixed

_HALF_BIN = 1 / 255  # 256 values from -1 to 1
_EDGE = 0.999  # beyond it lie only the first and the last of them
_LARGEST = 1e6  # factor on a prediction's error in x0; the published cosine betas come to 2e4 for the noise


def check(schedule: Schedule, prediction: Prediction) -> None:
    """Refuse a prediction that says nothing about x0 at the noisiest level.

    Raises:
        ConfigError: for the noise at zero SNR.
    """
    last = schedule.level(schedule.ends[1])
    if not max(prediction.out(last).abs(), prediction.skip(last).abs()) <= _LARGEST:  # nor NaN
        raise ConfigError(
            f"{type(prediction).__name__} cannot be used with {type(schedule).__name__}: at its last time, "
            f"{schedule.ends[1]:g}, there is next to no signal, and the noise says nothing about x0. Predict V, X0 or "
            "Edm, or take a schedule that keeps some signal."
        )


def stratified(first: int, count: int, size: int, step: int) -> Tensor:
    """[count] float64 numbers in [0, 1) for `Schedule.draw`: over a whole batch, one in each of `size` equal intervals.

    Which sample gets which interval is shuffled anew in each step, the same way in every process, so that neither a
    rank nor a source that comes every so many samples keeps to some noise levels. Where in its interval a number lies
    comes from torch's generator.

    Args:
        first: place of the first of these samples in the global batch, over all ranks and micro-batches.
        count: number of these samples.
        size: of the global batch.
        step: number of the optimiser step.
    """
    assert 0 <= first <= size - count, f"samples {first} to {first + count} of a batch of {size}"
    generator = torch.Generator().manual_seed(mixed(step, size))
    intervals = torch.randperm(size, generator=generator)[first : first + count]
    jitter = torch.rand(count, dtype=torch.float64).clamp(max=1 - 1e-9)  # so that no sum rounds up into the next
    return (intervals + jitter) / size


def denoising_losses(
    output: Tensor, x0: Tensor, noise: Tensor, level: Level, *, prediction: Prediction, weight: LossWeight
) -> Tensor:
    """Weighted mean squared error of the network's output.

    Args:
        output: [B, ...] what the network made of x_t = alpha x0 + sigma noise, of any floating dtype.
        x0: [B, ...] clean samples.
        noise: [B, ...]
        level: [] or [B]
        prediction: what the output means.
        weight: of the levels.
    Returns:
        [B] one loss per sample, in float32 or x0's dtype if that is wider.
    """
    x0 = _wide(x0)
    error = output.to(x0.dtype) - prediction.target(x0, noise.to(x0.dtype), level)
    losses_B = error.square().flatten(1).mean(dim=1)
    return losses_B * spread(weight(level, prediction), losses_B)


def variational_losses(
    output: Tensor,
    fraction: Tensor,
    x0: Tensor,
    x_t: Tensor,
    level: Level,
    *,
    schedule: Schedule,
    prediction: Prediction,
) -> Tensor:
    """The variational bound on -log p(x0), as the step at each sample's level estimates it: T times its term.

    The term is the KL divergence between the true posterior and the model's step, or in the last step to x0 the
    negative log-likelihood of 8-bit values in [-1, 1]. Only `fraction` is trained by it: the mean is detached. The
    hybrid loss of Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.1, is the simple loss plus 0.001 of this. Their
    code takes a tanh for the normal distribution in the last step; here it is exact.

    Args:
        output: [B, ...] the network's, as in `denoising_losses`.
        fraction: [B, ...] the network's, as in `Estimate`.
        x0: [B, ...] clean samples in [-1, 1].
        x_t: [B, ...] noised samples.
        level: [B] at times of the schedule.
        schedule: a discrete one.
        prediction: what the output means.
    Returns:
        [B] bits per dimension, in float32 or x0's dtype if that is wider.
    Raises:
        ConfigError: when the schedule has no steps.
    """
    x0 = _wide(x0)
    steps = schedule.train_steps
    to, before = schedule.level(level.time - 1), schedule.level((level.time + 1).clamp(max=steps - 1))
    estimate = prediction.to_x0(output.detach().to(x0.dtype), x_t.to(x0.dtype), level)
    log_variance = LearnedRange().log_variance(level, to, fraction.to(x0.dtype), before)
    true_log_variance = spread(FixedSmall().log_variance(level, to, None, before), x0)
    gap = spread(mean_factor(level, to), x0) * (x0 - estimate)  # both means have the same part of x_t
    divergence = _normal_divergence(gap, true_log_variance, log_variance)
    is_last = spread(to.log_snr.isinf(), x0).bool()
    # elsewhere the estimate may be so far off that the likelihood's gradient is infinite, and 0 times that is NaN
    surprise = -_log_likelihood(x0, torch.where(is_last, estimate, x0), log_variance)
    nats_B = torch.where(is_last, surprise, divergence).flatten(1).mean(dim=1)
    return nats_B * (steps / math.log(2))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _normal_divergence(gap: Tensor, log_variance_p: Tensor, log_variance_q: Tensor) -> Tensor:
    """KL(p || q) of normal distributions whose means are `gap` apart, in nats."""
    difference = log_variance_p - log_variance_q
    return (difference.exp() - 1 - difference + gap.square() * (-log_variance_q).exp()) / 2


def _log_likelihood(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log of the normal distribution's mass in the bin of each x, the outermost two reaching to infinity.

    Source: Ho et al. 2020, arXiv:2006.11239, equation 13.
    """
    inverse = (-log_variance / 2).exp()
    upper, lower = (x - mean + _HALF_BIN) * inverse, (x - mean - _HALF_BIN) * inverse
    is_above = upper + lower > 0  # mirrored then: differences of numbers near 1 would be lost
    high, low = torch.where(is_above, -lower, upper), torch.where(is_above, -upper, lower)
    mass = (torch.erfc(-high / math.sqrt(2)) - torch.erfc(-low / math.sqrt(2))) / 2  # torch's ndtr loses small ones
    inside = mass.clamp(min=1e-12).log()
    below_edge = torch.where(x < -_EDGE, torch.special.log_ndtr(upper), inside)
    return torch.where(x > _EDGE, torch.special.log_ndtr(-lower), below_edge)
