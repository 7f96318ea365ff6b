"""Which caption of a sample goes into a training batch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch


class Caption(ABC):
    """Picks a caption. Named in recipes."""

    @abstractmethod
    def __call__(self, captions: Sequence[str]) -> str:
        """One of the captions; random picks draw from torch's default generator, which is seeded for every sample."""


class FirstCaption(Caption):
    """Always the first: what evaluation uses too."""

    def __call__(self, captions: Sequence[str]) -> str:
        """The first."""
        return captions[0]


class RandomCaption(Caption):
    """Any of them, anew in every epoch."""

    def __call__(self, captions: Sequence[str]) -> str:
        """One, uniformly."""
        return captions[int(torch.randint(len(captions), ()))]
