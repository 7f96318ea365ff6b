"""Training of a denoiser (Ho et al. 2020, arXiv:2006.11239; hybrid loss: Nichol & Dhariwal 2021, arXiv:2102.09672).

Shape letters: B samples on this rank.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from mmfound.batch import ImageBatch
from mmfound.diffusion.conditioning.draws import SEEDS
from mmfound.diffusion.levels import Level, add_noise
from mmfound.diffusion.loss_weights import LossWeight, Uniform
from mmfound.diffusion.noise import SampleNoise
from mmfound.diffusion.objective import denoising_losses, stratified_times
from mmfound.diffusion.sampling import draw
from mmfound.diffusion.stage import Stage
from mmfound.optim import Optim
from mmfound.seeding import mixed
from mmfound.tasks.base import Task
from mmfound.tasks.denoising_checks import check_inputs, check_run

_QUARTERS = 4
_NOISE, _TIME = 1, 2  # purposes of the draws of validation
_CONDITION = 3  # and of sampling


class Diffusion(Task):
    """Learn to estimate pictures from noised ones, at all levels of noise.

    The times of a global batch are stratified: one from each of as many equal parts of the schedule as there are
    samples. Validation takes noise and time from the sample's key, so that its losses are comparable between steps and
    runs, whatever the batches.

    Beside `loss` are logged `loss_t0` to `loss_t3`, the same over quarters of the times from clean to noise; and in
    validation, where there is text, `conditioning_gap`: how much larger the loss is with the captions of other samples
    of the batch. It is 0 where the text is not listened to.

    Attributes:
        place: where in the global batch this micro-batch begins, and how many samples that has.

    Args:
        stage: network, schedule, prediction, space and conditioners.
        optim: optimiser and learning-rate schedule.
        weight: of the loss at each level; uniform by default, as published for epsilon.
        variational_weight: of the variational bound beside the rest, where the variance is learned.
    """

    batch_type = ImageBatch

    def __init__(
        self,
        stage: Stage,
        optim: Optim,
        weight: LossWeight | None = None,
        variational_weight: float = 0.001,
    ) -> None:
        super().__init__(optim)
        self.stage = stage
        self.weight = weight or Uniform()
        self.variational_weight = variational_weight
        self.place: tuple[int, int] | None = None
        self._is_checked = False

    def compute_losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """`loss` and its means over quarters of the times; the gap in validation."""
        size = len(batch["image"])
        if self.training:
            first, whole = self.place or (0, size)
            share_B = stratified_times(size, first, whole)
        else:
            seeds = [_key_seed(key) for key in batch["key"]]
            batch = {**batch, SEEDS: seeds}
            share_B = torch.tensor([mixed(_TIME, seed) / 2**64 for seed in seeds], dtype=torch.float64)
        x0 = self.stage.space.encode(batch["image"])
        noise = torch.randn_like(x0) if self.training else SampleNoise(_NOISE, batch[SEEDS]).draw(x0)
        level = self.stage.schedule.level(self.stage.schedule.draw(share_B))
        loss_B = self._losses(batch, x0, noise, level)
        losses = {"loss": loss_B.mean(), **_by_quarter(loss_B.detach(), share_B)}
        if not self.training and "tokens" in self.stage.reads and size > 1:
            losses["conditioning_gap"] = self._losses(_rolled(batch), x0, noise, level).mean() - losses["loss"]
        return losses
