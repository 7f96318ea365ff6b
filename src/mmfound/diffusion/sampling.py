"""How samples are drawn: sampler, number of steps, guidance and threshold, as a recipe or a command says."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from mmfound.diffusion.conditioning import Condition
from mmfound.diffusion.estimates import Denoiser
from mmfound.diffusion.levels import Level
from mmfound.diffusion.noise import SampleNoise
from mmfound.diffusion.samplers import Ddim
from mmfound.errors import ConfigError


class Sampler(Protocol):
    """Follows a denoiser from the first of some levels to the last; a dataclass of its settings."""

    def __call__(self, denoise: Denoiser, x: Tensor, levels: Sequence[Level], noise: SampleNoise) -> Tensor:
        """[B, ...] sample at levels[0] -> [B, ...] sample at levels[-1], which is x0 where that is CLEAN."""
        ...


class Guidance(Protocol):
    """Makes one denoiser of two conditions."""

    @property
    def needs_null(self) -> bool:
        """Whether it ever looks at the null. Where not, it is not called and no null is made."""
        ...

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
        steps: levels to step from. Each asks the guided denoiser once; with Heun all but the last ask it twice.
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
        if steps < 1:
            raise ConfigError(f"Sampling: steps is {steps}; it takes at least 1.")
        if temperature <= 0:
            raise ConfigError(f"Sampling: temperature is {temperature}; it is a factor on the first noise, above 0.")
        self.sampler = sampler or Ddim()
        self.steps = steps
        self.guidance = guidance
        self.threshold = threshold
        self.temperature = temperature
