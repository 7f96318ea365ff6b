"""Randomness that is a function of what it is drawn for, never of when or in which process."""

import hashlib
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def key(*parts: int | str) -> int:
    """128 bits that depend on every part and on their order."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode() + b"\0" if isinstance(part, str) else struct.pack("<q", part))
    return int.from_bytes(digest.digest(), "little")


def permutation(length: int, *parts: int | str) -> np.ndarray:
    """A permutation of range(length), int64, keyed by `parts` [n].

    Made by sorting raw generator output: numpy promises that to be the same in all versions, unlike `shuffle`.
    """
    return np.argsort(np.random.Philox(key=key(*parts)).random_raw(length), kind="stable")


@contextmanager
def restored_generators() -> Iterator[None]:
    """Puts torch's (CPU), Python's and numpy's global generators back as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def seed_generators(*parts: int | str) -> None:
    """Seed torch's (CPU), Python's and numpy's global generators: what the transforms of all libraries draw from."""
    seed = key(*parts)
    # torch.manual_seed would also visit every accelerator, a hundred times slower than the CPU generator alone.
    torch.default_generator.manual_seed(seed & (2**63 - 1))
    random.seed(seed)
    np.random.seed(seed >> 96)
