"""How samples are drawn: sampler, number of steps, guidance and threshold, as a recipe or a command says."""

from mmfound.diffusion.guidance import Guidance, Steering
from mmfound.diffusion.samplers import Ddim, Sampler
from mmfound.diffusion.thresholds import Threshold
from mmfound.errors import ConfigError


class Sampling:
    """Settings of sampling.

    Args:
        sampler: Ddim by default.
        steps: levels to step from. Each asks the guided denoiser once; with Heun all but the last ask it twice.
        guidance: none by default.
        threshold: none by default; data in bounds should have one.
        temperature: factor on the first noise; GLIDE's upsampler takes 0.997.
        steering: by another model, such as `ClipGuidance`, after the guidance and before the threshold.
    """

    def __init__(
        self,
        sampler: Sampler | None = None,
        steps: int = 50,
        guidance: Guidance | None = None,
        threshold: Threshold | None = None,
        temperature: float = 1.0,
        steering: Steering | None = None,
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
        self.steering = steering
