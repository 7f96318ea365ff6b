"""Training of a denoiser (Ho et al. 2020, arXiv:2006.11239; hybrid loss: Nichol & Dhariwal 2021, arXiv:2102.09672).

Shape letters: B samples on this rank.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from mmfound.batch import ImageBatch
from mmfound.callbacks.ema import Ema
from mmfound.diffusion.conditioning.draws import SEEDS
from mmfound.diffusion.drawing import draw
from mmfound.diffusion.levels import Level, add_noise
from mmfound.diffusion.loss_weights import LossWeight, Uniform
from mmfound.diffusion.noise import SampleNoise
from mmfound.diffusion.objective import denoising_losses, stratified, variational_losses
from mmfound.diffusion.stage import Stage
from mmfound.errors import ConfigError
from mmfound.optim import Optim
from mmfound.seeding import mixed
from mmfound.tasks.base import Task
from mmfound.tasks.denoising_checks import check_captions, check_memory, check_rate, check_x0
from mmfound.tasks.pairs import check_vocabulary, tokenizer_in

_QUARTERS = 4
_NOISE, _TIME, _CONDITION = 1, 2, 3  # purposes of draws in validation and sampling
_STAGE = "stage."

Mean = tuple[Tensor, int]  # of so many samples


class Diffusion(Task):
    """Learn to estimate pictures from noised ones, at all levels of noise.

    The times of a global batch are stratified: one from each of as many equal parts of the schedule as there are
    samples. Validation takes noise and time from the sample's key, so that its losses are comparable between steps and
    runs, whatever the batches.

    Beside `loss` are logged, with a learned variance, its parts `simple_loss` and `bits`, the variational bound per
    dimension; `loss_t0` to `loss_t3`, the simple loss over quarters of the times from clean to noise; and in
    validation, where there is text, `conditioning_gap`: how much larger the simple loss is with the captions of other
    samples of the batch. It is 0 where the text is not listened to.

    Attributes:
        place: where in the global batch this micro-batch begins, how many samples that has, and its number.

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
        self.place: tuple[int, int, int] | None = None
        self._is_checked = False

    def compute_losses(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """`loss`, its parts, means by quarter and, in validation, the gap; those of no sample are left out."""
        return {name: value for name, (value, count) in self._means(batch).items() if count}

    def sample_images(self, batch: Mapping[str, Any], indices: Sequence[int], seed: int) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1], drawn as `stage.sampling` says; see `mmfound.abilities.SamplesImages`.

        Where the batch has a `mask`, known pixels stay as they are in `known_image`.
        """
        if "mask" in batch and "known_image" not in batch:
            raise ConfigError("the batch has a mask but no known_image; add the picture whose known part it marks.")
        seeds = [mixed(seed, _CONDITION, int(index)) for index in indices]
        known = (self.stage.space.encode(batch["known_image"]), batch["mask"]) if "mask" in batch else None
        x0 = draw(self.stage, {**batch, SEEDS: seeds}, SampleNoise(seed, indices), known=known)
        return self.stage.space.decode(x0)

    @property
    def pictures(self) -> frozenset[str]:
        """Keys of pictures that it has to be given to draw; see `Stage.pictures`."""
        return self.stage.pictures

    def fitted(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of this task with fewer channels beside x_t; see `Stage.fitted`."""
        own = {name.removeprefix(_STAGE): value for name, value in state.items() if name.startswith(_STAGE)}
        return {**state, **{_STAGE + name: value for name, value in self.stage.fitted(own).items()}}

    def setup(self, stage: str) -> None:
        """Refuse a tokenizer with more ids than a text transformer has rows, and steering by what is not there."""
        super().setup(stage)
        if self.stage.sampling.steering is not None:
            self.stage.sampling.steering.check()
        for part in self.stage.parts():
            for network in part.children():
                check_vocabulary(network, tokenizer_in(self.trainer))

    def on_train_start(self) -> None:
        """Say what is likely to go wrong."""
        optimizers, trainer = list(self.trainer.optimizers), self.trainer
        check_rate(self, optimizers)
        check_captions(getattr(trainer, "datamodule", None))
        averages = any(isinstance(callback, Ema) for callback in trainer.callbacks)  # pyright: ignore
        check_memory(self, optimizers, averages=averages, device=self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Look at the first batch of a start; nothing is drawn from the generators that training draws from."""
        if self._is_checked or "image" not in batch:
            return
        self._is_checked = True
        with torch.no_grad(), torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            check_x0(self.stage.space, self.stage.space.encode(batch["image"]))
        for part in self.stage.parts():
            if set(part.reads) <= batch.keys():
                part.check(batch)

    def _means(self, batch: Mapping[str, Any]) -> dict[str, Mean]:
        """All that is logged, with the number of samples behind it."""
        size, device = len(batch["image"]), batch["image"].device
        batch, share_B = (batch, self._drawn_shares(size)) if self.training else _fixed(batch)
        x0 = self.stage.space.encode(batch["image"])
        noise = torch.randn_like(x0) if self.training else SampleNoise(_NOISE, batch[SEEDS]).draw(x0)
        level = self.stage.schedule.level(self.stage.schedule.draw(share_B))
        x_t = add_noise(x0, noise, level)
        output, fraction = self._output(batch, x_t, level)
        simple_B = self._simple(output, x0, noise, level)
        means: dict[str, Mean] = {"loss": (simple_B.mean(), size)}
        if fraction is not None:
            how: dict[str, Any] = {"schedule": self.stage.schedule, "prediction": self.stage.prediction}
            bound_B = variational_losses(output, fraction, x0, x_t, level, **how)
            means = {
                "loss": ((simple_B + self.variational_weight * bound_B).mean(), size),
                "simple_loss": (simple_B.detach().mean(), size),
                "bits": (bound_B.detach().mean(), size),
            }
        for quarter, chosen_B in enumerate(_quarters(share_B)):
            kept_B = torch.where(chosen_B.to(device), simple_B.detach(), 0)  # a boolean index waits for the device
            count = int(chosen_B.sum())
            means[f"loss_t{quarter}"] = (kept_B.sum() / max(1, count), count)
        if not self.training and "tokens" in self.stage.reads:
            other, _ = self._output(_rolled(batch), x_t, level)  # of one sample, too: all ranks compute alike
            other_B = self._simple(other, x0, noise, level)
            means["conditioning_gap"] = (other_B.mean() - simple_B.mean(), size if size > 1 else 0)
        return means

    def _drawn_shares(self, size: int) -> Tensor:
        first, whole, number = self.place or (0, size, 0)
        return stratified(first, size, whole, number)

    def _output(self, batch: Mapping[str, Any], x_t: Tensor, level: Level) -> tuple[Tensor, Tensor | None]:
        """The network's prediction and, with a learned variance, its fraction."""
        condition = self.stage.condition(batch, len(x_t), "by_rate" if self.training else "none")
        return self.stage.output(x_t, level, condition)

    def _simple(self, output: Tensor, x0: Tensor, noise: Tensor, level: Level) -> Tensor:
        """[B]"""
        return denoising_losses(output, x0, noise, level, prediction=self.stage.prediction, weight=self.weight)

    def _log_mean_losses(self, batch: Mapping[str, Any], split: str) -> None:
        self._check_keys(batch)
        for name, (value, count) in self._means(batch).items():  # all of them, so that all ranks log the same
            self.log(f"{split}/{name}", value, batch_size=count, on_step=False, on_epoch=True, sync_dist=True)


def _fixed(batch: Mapping[str, Any]) -> tuple[dict[str, Any], Tensor]:
    """The batch with a seed for each sample, from its key, and [B] shares of the way to noise, from the seed."""
    seeds = [
        int.from_bytes(blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest()) for key in batch["key"]
    ]
    shares = [mixed(_TIME, seed) / 2**64 for seed in seeds]
    return {**batch, SEEDS: seeds}, torch.tensor(shares, dtype=torch.float64)


def _quarters(share_B: Tensor) -> list[Tensor]:
    """[B] bool for each quarter of the way to noise."""
    quarter_B = (share_B * _QUARTERS).long()
    return [quarter_B == quarter for quarter in range(_QUARTERS)]


def _rolled(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch with the text of another sample for each."""
    return {**batch, **{name: batch[name].roll(1, dims=0) for name in ("tokens", "token_mask")}}
