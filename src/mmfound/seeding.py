"""Seeds as a function of what is drawn for, and the generators that networks draw from."""

import random

import numpy as np
import torch

_64_BITS = (1 << 64) - 1


def mixed(*keys: int) -> int:
    """64 bits that depend on all keys (splitmix64's finaliser over their chain), the same in every process."""
    state = 0
    for key in keys:
        state = (state + key + 0x9E3779B97F4A7C15) & _64_BITS
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _64_BITS
        state ^= state >> 31
    return state


def seed_generators(number: int, device: torch.device) -> None:
    """Seed what a network on `device` may draw from: torch's generators of it and of the CPU, numpy's and Python's."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(number)
    elif device.type != "cpu":
        torch.manual_seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    random.seed(number)
