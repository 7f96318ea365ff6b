"""Draws samples of one stage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mmfound.diffusion.clamping import clamped
from mmfound.diffusion.conditioning.draws import SEEDS
from mmfound.diffusion.estimates import Denoiser
from mmfound.diffusion.fitting import check_droppable
from mmfound.diffusion.guidance import Guidance
from mmfound.diffusion.levels import Level, add_noise
from mmfound.diffusion.noise import SampleNoise
from mmfound.diffusion.samplers import Ddpm
from mmfound.diffusion.sampling import Sampling
from mmfound.diffusion.stage import Stage
from mmfound.errors import ConfigError


@torch.no_grad()
def draw(
    stage: Stage,
    batch: Mapping[str, Any],
    noise: SampleNoise,
    sampling: Sampling | None = None,
    *,
    wrap: Callable[[Denoiser], Denoiser] | None = None,
    start: tuple[Tensor, float] | None = None,
    known: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Draw one sample for each stream of noise.

    The denoiser is made from the inside out: guidance, steering, `wrap`, threshold, `known`. Mode and precision are the
    caller's; the sample is kept in float32.

    Args:
        stage: in eval mode.
        batch: what its conditioners read, B rows on the network's device. What they draw at random comes from its
            `draw_seed` or, without it, from the streams: the same under the condition and under the null.
        noise: B streams.
        sampling: in place of the stage's.
        wrap: changes the guided denoiser, whose x0 is in no bounds yet (`clip_guided`).
        start: image-to-image: clean samples [B, *shape] and a strength in (0, 1], the share of the steps that is taken,
            from those samples with the noise of the level where it begins.
        known: inpainting: clean samples [B, *shape] and a mask [B, 1, ...], True where the result is to be them.

    Returns:
        [B, *stage.space.shape] float32 x0, not decoded.
    Raises:
        ConfigError: guidance without a conditioner that is ever dropped; a strength out of range; more steps than the
            schedule has.
    """
    sampling = sampling or stage.sampling
    batch = {SEEDS: noise.seeds, **batch}
    levels = stage.schedule.levels(sampling.steps)
    device = next(stage.network.parameters()).device
    x = sampling.temperature * noise.draw(
        torch.empty(len(noise), *stage.space.shape, device=device, dtype=torch.float32)
    )
    if start is not None:
        levels = levels_left(levels, start[1])
        x = add_noise(start[0].to(x), x, levels[0])
    denoise = _guided(stage, batch, len(noise), sampling.guidance)
    if sampling.steering is not None:
        denoise = sampling.steering(denoise, batch)
    if wrap is not None:
        denoise = wrap(denoise)
    if sampling.threshold is not None:
        denoise = sampling.threshold(denoise)
    if known is not None:
        denoise = clamped(denoise, *known)
    sampler = sampling.sampler
    if isinstance(sampler, Ddpm) and sampler.variance is None:
        sampler = replace(sampler, variance=stage.variance)
    return sampler(denoise, x, levels, noise)


def levels_left(levels: Sequence[Level], strength: float) -> list[Level]:
    """The last levels, with the share `strength` of the steps, but at least one."""
    if not 0 < strength <= 1:
        raise ConfigError(f"strength is {strength}; it is the share of the steps to take, above 0 and up to 1.")
    steps = len(levels) - 1
    return list(levels[steps - max(1, round(strength * steps)) :])


def _guided(stage: Stage, batch: Mapping[str, Any], size: int, guidance: Guidance | None) -> Denoiser:
    condition = stage.condition(batch, size)
    if guidance is None or not guidance.needs_null:
        return stage.denoiser(condition)
    check_droppable(stage.parts(), guidance)
    return guidance(stage.denoiser, condition, stage.condition(batch, size, drop="all"))
