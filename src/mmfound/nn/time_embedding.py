"""Sinusoids of a time."""

import math

import torch
from torch import Tensor


def sinusoids(time: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """[B] times -> [B, width] float32, cosines and then sines of falling frequencies.

    Args:
        time: of any dtype; released weights count 0 to 999.
        width: even.
        max_period: the frequencies fall from 1 to almost 1 / max_period.

    Source: Ho et al. 2020, arXiv:2006.11239, appendix B, in the order of the weights that OpenAI released.
    """
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=time.device) / half
    angles = time.float()[:, None] * torch.exp(-math.log(max_period) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)
