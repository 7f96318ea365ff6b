"""Inpainting: known parts of a sample stay what they are."""

from dataclasses import replace

from torch import Tensor

from mmfound.diffusion.estimates import Denoiser, Estimate
from mmfound.diffusion.levels import Level


def clamped(denoise: Denoiser, known: Tensor, mask: Tensor) -> Denoiser:
    """A denoiser whose x0 is the known sample where it is known, so that samplers that end at CLEAN return that.

    Args:
        denoise: what estimates the rest; thresholds go inside of it, for they would change the known part.
        known: [B, *shape] clean sample; what it holds elsewhere has no effect.
        mask: [B, 1, ...] or [B, *shape] bool, or numbers, from 0.5 up known; True where known, as GLIDE has it.
    """
    keep = mask.float() >= 0.5

    def held(x_t: Tensor, level: Level) -> Estimate:
        estimate = denoise(x_t, level)
        return replace(estimate, x0=known.to(estimate.x0).where(keep, estimate.x0))

    return held
