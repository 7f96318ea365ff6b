"""Which caption of a sample goes into a training batch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import compress, cycle

import torch

from mmfound.errors import ConfigError


class Caption(ABC):
    """Picks a caption. Named in recipes."""

    @abstractmethod
    def __call__(self, captions: Sequence[str]) -> str:
        """One of the captions; random picks draw from torch's default generator, which is seeded for every sample."""

    def possible(self, captions: Iterable[str]) -> Iterable[str]:
        """Those of the captions of several samples, in their order, that may be picked, as far as that is known."""
        return captions


class FirstCaption(Caption):
    """Always the first: what evaluation uses too."""

    def __call__(self, captions: Sequence[str]) -> str:
        """The first."""
        return captions[0]


class RandomCaption(Caption):
    """Any of them, anew in every epoch.

    Args:
        weights: how often each is picked, in the order of a sample's captions; any scale. All alike by default.

    Raises:
        ConfigError: when no weight is above zero, or one is negative or not finite.
    """

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        if weights is not None and not (all(0 <= weight < math.inf for weight in weights) and any(weights)):
            raise ConfigError(f"RandomCaption: weights are {list(weights)}; each must be 0 or more, and one above 0")
        self.weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)

    def __call__(self, captions: Sequence[str]) -> str:
        """One, at random.

        Raises:
            ConfigError: when a sample has not as many captions as there are weights.
        """
        if self.weights is None:
            return captions[int(torch.randint(len(captions), ()))]
        if len(captions) != len(self.weights):
            raise ConfigError(
                f"RandomCaption: {len(self.weights)} weights, but a sample has {len(captions)} captions: {captions}; "
                "give one weight for each, or none"
            )
        return captions[int(torch.multinomial(self.weights, 1))]

    def possible(self, captions: Iterable[str]) -> Iterable[str]:
        """All but those of weight zero."""
        return captions if self.weights is None else compress(captions, cycle((self.weights > 0).tolist()))
