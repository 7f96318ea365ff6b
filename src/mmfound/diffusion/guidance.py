"""Guidance: what moves the estimate of x0 towards a condition. Variances are left alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from mmfound.diffusion.conditioning import Condition, stack
from mmfound.diffusion.estimates import Denoiser, Estimate
from mmfound.diffusion.levels import Level
from mmfound.errors import ConfigError

Interval = tuple[float, float]


class Guidance(ABC):
    """Makes one denoiser of two conditions."""

    @property
    def needs_null(self) -> bool:
        """Whether it ever looks at the null. Where not, `draw` makes none and samples the condition alone."""
        return True

    @abstractmethod
    def __call__(self, denoiser_of: Callable[[Condition], Denoiser], condition: Condition, null: Condition) -> Denoiser:
        """Strengthen a condition against its null."""


class Steering(ABC):
    """Moves a denoiser, guided or not, by what another model makes of its samples."""

    @abstractmethod
    def __call__(self, denoise: Denoiser, batch: Mapping[str, Any]) -> Denoiser:
        """Steer a denoiser of B samples; `batch` is what the stage's conditioners read, and what the other needs."""

    def check(self) -> None:  # noqa: B027 - most need nothing from outside
        """Refuse what is missing, before anything runs.

        Raises:
            ConfigError: naming it.
        """


@dataclass(frozen=True)
class ClassifierFree(Guidance):
    """x0 = x0(null) + scale (x0(condition) - x0(null)); the same in epsilon, x0 and v, which are linear in x0.

    Source: Ho & Salimans 2022, arXiv:2207.12598, equation 6; rescaling Lin et al. 2023, arXiv:2305.08891, section 3.4,
    which is done here on x0; interval Kynkaanniemi et al. 2024, arXiv:2404.07724.

    Args:
        scale: 0 is the null alone, 1 the condition alone (neither asks for the other), more is guidance.
        rescale: from 0 to 1, how far the standard deviation of each sample's x0 is brought back to that of the
            condition's.
        interval: smallest and largest log-SNR at which to guide, the condition alone elsewhere, which saves its null.
            A paper's noise levels from a to b (s = sigma / alpha) are (-2 ln b, -2 ln a).
        passes: 1 asks the network once with twice the batch, 2 twice with half the memory.
    """

    scale: float
    rescale: float = 0.0
    interval: Interval | None = None
    passes: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        if not self.scale >= 0:  # nor NaN
            raise ConfigError(f"ClassifierFree: scale is {self.scale}; 0 ignores the condition, 1 is without guidance.")
        if not 0 <= self.rescale <= 1:
            raise ConfigError(f"ClassifierFree: rescale is {self.rescale}; it goes from 0, not at all, to 1.")
        if self.interval is not None and self.interval[0] >= self.interval[1]:
            raise ConfigError(
                f"ClassifierFree: interval is {list(self.interval)}; the first log-SNR must be the smaller one."
            )

    @property
    def needs_null(self) -> bool:
        return self.scale != 1

    def __call__(self, denoiser_of: Callable[[Condition], Denoiser], condition: Condition, null: Condition) -> Denoiser:
        """Strengthen a condition against its null."""
        alone = denoiser_of(condition)
        if not self.needs_null:
            return alone
        if self.scale == 0 and self.interval is None:
            return denoiser_of(null)
        both = self._one_pass(denoiser_of, condition, null) if self.passes == 1 else _pair(alone, denoiser_of(null))

        def guided(x_t: Tensor, level: Level) -> Estimate:
            if not _within(self.interval, level):
                return alone(x_t, level)
            with_it, without = both(x_t, level)
            return replace(with_it, x0=self._combined(with_it.x0, without.x0))

        return guided

    def _combined(self, x0: Tensor, null: Tensor) -> Tensor:
        guided = null + self.scale * (x0 - null)
        if not self.rescale:
            return guided
        factor = _deviation(x0) / _deviation(guided).clamp(min=1e-12)
        return guided * (1 + self.rescale * (factor - 1))

    def _one_pass(
        self, denoiser_of: Callable[[Condition], Denoiser], condition: Condition, null: Condition
    ) -> Callable[[Tensor, Level], tuple[Estimate, Estimate]]:
        denoise = denoiser_of(stack(condition, null))

        def both(x_t: Tensor, level: Level) -> tuple[Estimate, Estimate]:
            if level.log_snr.dim():
                level = Level(level.time.repeat(2), level.log_snr.repeat(2))
            estimate = denoise(torch.cat([x_t, x_t]), level)
            x0, fraction = estimate.x0.chunk(2), estimate.variance_fraction
            fractions = (None, None) if fraction is None else fraction.chunk(2)
            return Estimate(x0[0], fractions[0]), Estimate(x0[1], fractions[1])

        return both


def clip_guided(
    denoise: Denoiser, score: Callable[[Tensor, Level], Tensor], scale: float, *, interval: Interval | None = None
) -> Denoiser:
    """Move samples to where a score of the noised sample is higher: CLIP guidance, classifier guidance.

    With score' = score + scale gradient in Tweedie's x0 = (x_t + sigma^2 score) / alpha, x0 moves by
    sigma^2 / alpha scale gradient. Moving epsilon by -sigma scale gradient, as is done for DDIM, is the same to the
    digit. Moving the ancestral mean by variance scale gradient is the same in the limit of small steps: it is this
    times alpha_t / alpha_s for FixedLarge, and besides sigma_s^2 / sigma_t^2 for FixedSmall, s being the next level.

    Args:
        denoise: what is guided.
        score: (x_t [B, ...], level) -> [B], the log of a likelihood up to a constant; differentiable in x_t, and the
            score of a sample may depend on no other sample. For CLIP the logit scale times the cosine.
        scale: of the gradient.
        interval: smallest and largest log-SNR at which to guide.
    Source: Dhariwal & Nichol 2021, arXiv:2105.05233, section 4; Nichol et al. 2021, arXiv:2112.10741, section 2.4.
    """

    def guided(x_t: Tensor, level: Level) -> Estimate:
        estimate = denoise(x_t, level)
        alpha = float(level.alpha)
        if not alpha or not _within(interval, level):
            return estimate
        shift = float(level.sigma) ** 2 / alpha * scale
        return replace(estimate, x0=estimate.x0 + shift * _gradient(score, x_t, level))

    return guided


def _gradient(score: Callable[[Tensor, Level], Tensor], x_t: Tensor, level: Level) -> Tensor:
    """[B, ...] gradient of each sample's score, in inference mode too."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x_t.detach().clone().requires_grad_()
        return torch.autograd.grad(score(x, level).sum(), x)[0]


def _pair(first: Denoiser, second: Denoiser) -> Callable[[Tensor, Level], tuple[Estimate, Estimate]]:
    return lambda x_t, level: (first(x_t, level), second(x_t, level))


def _within(interval: Interval | None, level: Level) -> bool:
    return interval is None or interval[0] <= float(level.log_snr) <= interval[1]


def _deviation(x: Tensor) -> Tensor:
    """[B, 1, ...] standard deviation of each sample."""
    return x.std(dim=tuple(range(1, x.dim())), keepdim=True)
