"""One trained part of a diffusion system: network, schedule, prediction, space and conditioners bound together."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmfound.diffusion.conditioning import Condition, Conditioner, join
from mmfound.diffusion.estimates import Denoiser, Estimate
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

    def condition(self, batch: Mapping[str, Any], size: int, drop: Drop = "none") -> Condition:
        """The condition of a batch of `size` samples.

        Args:
            batch: what the conditioners read, on the network's device.
            size: B.
            drop: rows that get the null: each by its conditioner's rate (training), none, or all of every conditioner
                that has a rate (guidance).
        """
        device = next(self.network.parameters()).device
        parts = []
        for conditioner in self.conditioners:
            assert isinstance(conditioner, Conditioner)
            dropped_B = torch.zeros(size, dtype=torch.bool, device=device)
            if drop == "by_rate" and conditioner.drop > 0:
                dropped_B = (torch.rand(size) < conditioner.drop).to(device)
            elif drop == "all" and conditioner.drop > 0:
                dropped_B = ~dropped_B
            parts.append(conditioner(batch, dropped_B))
        return join(parts)

    def output(self, x_t: Tensor, level: Level, condition: Condition) -> tuple[Tensor, Tensor | None]:
        """The network's prediction and, with a learned variance, its fraction; both [B, ...]."""
        time = self.schedule.network_time(level.time).to(x_t.device)
        x = self.network(spread(self.prediction.scale(level), x_t) * x_t, time, condition)
        if not isinstance(self.variance, LearnedRange):
            return x, None
        prediction, raw = x.chunk(2, dim=1)
        return prediction, (raw + 1) / 2

    def denoiser(self, condition: Condition) -> Denoiser:
        """The network under a condition, as samplers take it."""

        def denoise(x_t: Tensor, level: Level) -> Estimate:
            output, fraction = self.output(x_t, level, condition)
            return Estimate(self.prediction.to_x0(output.float(), x_t, level), fraction)

        return denoise
