"""One trained part of a diffusion system: network, schedule, prediction, space and conditioners bound together."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mmfound.diffusion import objective
from mmfound.diffusion.conditioning import Condition, Conditioner, join
from mmfound.diffusion.estimates import Denoiser, Estimate
from mmfound.diffusion.fitting import check_fit, check_sampling, grown
from mmfound.diffusion.levels import Level, spread
from mmfound.diffusion.predictions import Prediction
from mmfound.diffusion.sampling import Sampling
from mmfound.diffusion.schedules import Schedule
from mmfound.diffusion.spaces import Space
from mmfound.diffusion.variances import FixedSmall, LearnedRange, Variance

Drop = Literal["by_rate", "none", "all"]


class Stage(nn.Module):
    """Everything that samples of one resolution are drawn with; what `export/` holds.

    Args:
        network: (x [B, C, H, W], time [B] or [], condition) -> [B, C, H, W], or twice the channels with a learned
            variance.
        schedule: times and noise levels.
        prediction: what the network's output means.
        space: what is diffused.
        conditioners: in the order of their tokens and channels; none for unconditional pictures.
        variance: of the ancestral step; FixedSmall by default.
        sampling: how samples are drawn where nothing else is said.

    Raises:
        ConfigError: when the parts do not fit, naming both.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        prediction: Prediction,
        space: Space,
        conditioners: Sequence[Conditioner] = (),
        variance: Variance | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.prediction = prediction
        self.space = space
        self.conditioners = nn.ModuleList(conditioners)
        self.variance = variance or FixedSmall()
        self.sampling = sampling or Sampling()
        objective.check(schedule, prediction)
        if isinstance(self.variance, LearnedRange):
            _ = schedule.train_steps  # which refuses where there are none
        learns_variance = isinstance(self.variance, LearnedRange)
        check_fit(network, space, list(conditioners), learns_variance=learns_variance)
        if sampling is not None:
            check_sampling(sampling, schedule, self.parts(), learns_variance=learns_variance)

    def parts(self) -> list[Conditioner]:
        """The conditioners, in their order."""
        return cast(list[Conditioner], list(self.conditioners))

    @property
    def reads(self) -> frozenset[str]:
        """Keys of a batch that the conditioners need."""
        return frozenset(key for conditioner in self.parts() for key in conditioner.reads)

    @property
    def pictures(self) -> frozenset[str]:
        """Keys of pictures that drawing needs, where training makes them of the sample's own."""
        made = [part.reads_one_of for part in self.parts() if "image" in part.reads_one_of]
        return frozenset(key for keys in made for key in keys) - {"image"}

    def condition(self, batch: Mapping[str, Any], size: int, drop: Drop = "none") -> Condition:
        """The condition of a batch of `size` samples.

        Args:
            batch: what the conditioners read, on the network's device.
            size: B.
            drop: rows that get the null: each by its conditioner's rate (training), none, or all of every conditioner
                that has a rate (guidance).

        Raises:
            ConfigError: when the batch lacks something.
        """
        self.check_reads(batch)
        device = next(self.network.parameters()).device
        return join([part(batch, self._dropped(part, size, drop).to(device)) for part in self.parts()])

    def check_reads(self, keys: Collection[str]) -> None:
        """Refuse a batch with these keys alone when a conditioner needs another.

        Raises:
            ConfigError: naming both.
        """
        for part in self.parts():
            part.check_reads(keys)

    def output(self, x_t: Tensor, level: Level, condition: Condition) -> tuple[Tensor, Tensor | None]:
        """The network's prediction and, with a learned variance, its fraction; both [B, ...] float32 at least."""
        time = self.schedule.network_time(level.time).to(x_t.device)
        x = self.network(spread(self.prediction.scale(level), x_t) * x_t, time, condition)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if not isinstance(self.variance, LearnedRange):
            return x, None
        prediction, raw = x.chunk(2, dim=1)
        return prediction, (raw + 1) / 2

    def denoiser(self, condition: Condition) -> Denoiser:
        """The network under a condition, as samplers take it."""

        def denoise(x_t: Tensor, level: Level) -> Estimate:
            output, fraction = self.output(x_t, level, condition)
            return Estimate(self.prediction.to_x0(output, x_t, level), fraction)

        return denoise

    def fitted(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a stage with fewer channels beside x_t as this one's: the new ones' weights are zero.

        The new channels stand directly behind x_t, before those that were there, so that inpainting's do as in the
        released GLIDE upsampler. The network at first makes what it made before, whatever the new channels hold.
        """
        return grown(state, self.network, self.space.shape[0], self.parts())

    def _dropped(self, conditioner: Conditioner, size: int, drop: Drop) -> Tensor:
        """[B] bool on the CPU."""
        if drop == "by_rate" and conditioner.drop > 0:
            return torch.rand(size, dtype=torch.float32) < conditioner.drop
        return torch.full((size,), drop == "all" and conditioner.drop > 0)
