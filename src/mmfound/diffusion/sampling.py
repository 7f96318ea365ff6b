"""How samples are drawn: sampler, number of steps, guidance and threshold, as a recipe or a command says."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from mmfound.diffusion.conditioning import Condition
from mmfound.diffusion.estimates import Denoiser
from mmfound.diffusion.levels import Level
from mmfound.diffusion.noise import SampleNoise


class Sampler(Protocol):
    """Follows a denoiser from the first of some levels to the last; a dataclass of its settings."""

    def __call__(self, denoise: Denoiser, x: Tensor, levels: Sequence[Level], noise: SampleNoise) -> Tensor:
        """[B, ...] sample at levels[0] -> [B, ...] sample at levels[-1], which is x0 where that is CLEAN."""
        ...


class Guidance(Protocol):
    """Makes one denoiser of two conditions."""

    def __call__(self, denoiser_of: Callable[[Condition], Denoiser], condition: Condition, null: Condition) -> Denoiser:
        """Strengthen a condition against its null."""
        ...


class Threshold(Protocol):
    """Holds an estimate of x0 to the range of the data."""

    def __call__(self, denoise: Denoiser) -> Denoiser:
        """The same denoiser with its x0 held."""
        ...


class Sampling:
    """Settings of sampling.

    Args:
        sampler: Ddim by default.
        steps: evaluations of the guided denoiser.
        guidance: none by default.
        threshold: none by default; data in bounds should have one.
        temperature: factor on the first noise; GLIDE's upsampler takes 0.997.
    """

    def __init__(
        self,
        sampler: Sampler | None = None,
        steps: int = 50,
        guidance: Guidance | None = None,
        threshold: Threshold | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.sampler = sampler
        self.steps = steps
        self.guidance = guidance
        self.threshold = threshold
        self.temperature = temperature
