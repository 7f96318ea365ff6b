"""Stages in a row: the first draws, each further one enlarges what the one before has drawn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmfound.diffusion.conditioning import Inpainting, LowResolution, draws
from mmfound.diffusion.conditioning.low_resolution import eight_bits
from mmfound.diffusion.drawing import draw
from mmfound.diffusion.estimates import Denoiser
from mmfound.diffusion.given import Given
from mmfound.diffusion.noise import SampleNoise
from mmfound.diffusion.sampling import Sampling
from mmfound.diffusion.stage import Stage
from mmfound.errors import ConfigError
from mmfound.seeding import mixed

_CONDITION = 3  # purpose of the draws of conditioners
Tokenize = Callable[[Sequence[str]], Mapping[str, Any]]
PROVIDED = frozenset(("prompt", "tokens", "token_mask", "label", "low_resolution", "known_image", "mask"))


@dataclass(frozen=True)
class Link:
    """A stage in its place.

    Args:
        name: such as the folder of its export, for errors.
        stage: in eval mode.
        tokenize: of its prompts; None where it has none.
    """

    name: str
    stage: Stage
    tokenize: Tokenize | None = None

    @property
    def side(self) -> int:
        """Of its pictures, in pixels."""
        return self.stage.space.shape[-1]

    @property
    def upsampler(self) -> LowResolution | None:
        """The part that takes a smaller picture."""
        return _part(self.stage, LowResolution)

    @property
    def inpainting(self) -> Inpainting | None:
        """The part that is told what is known."""
        return _part(self.stage, Inpainting)


class Pipeline:
    """Draws pictures with stages in a row.

    Args:
        links: at least one.

    Raises:
        ConfigError: when a stage does not fit the one before, naming both, or reads what a pipeline cannot give.
    """

    def __init__(self, links: Sequence[Link]) -> None:
        assert links
        for before, after in zip(links, links[1:], strict=False):
            _check_pair(before, after)
        for link in links:
            unknown = sorted(link.stage.reads - PROVIDED)
            if unknown:
                raise ConfigError(f"{link.name} reads {unknown}, which a pipeline has not; it has {sorted(PROVIDED)}.")
        self.links = list(links)

    @property
    def device(self) -> torch.device:
        """Of the networks."""
        return next(self.links[0].stage.network.parameters()).device

    def reads(self, key: str) -> list[Link]:
        """The links whose stage reads this key of a batch."""
        return [link for link in self.links if key in link.stage.reads]

    @property
    def pictures(self) -> frozenset[str]:
        """Keys of pictures that the first stage has to be given; those behind it get what is drawn."""
        return self.links[0].stage.pictures

    def sample_images(self, batch: Mapping[str, Any], indices: Sequence[int], seed: int) -> Tensor:
        """Draw as `SamplesImages` says, with each stage's own settings; tokens in the batch go to all stages."""
        return self.draw(batch, indices, seed)

    @torch.inference_mode()
    def draw(
        self,
        batch: Mapping[str, Any],
        indices: Sequence[int],
        seed: int,
        *,
        samplings: Sequence[Sampling] | None = None,
        given: Given | None = None,
        watch: Callable[[Denoiser], Denoiser] | None = None,
    ) -> Tensor:
        """Draw one picture for each index.

        Args:
            batch: `prompt`, a list of B texts that each stage tokenizes for itself, or `tokens` and `token_mask`;
                `label` [B] where classes are read; `low_resolution` [B, 3, h, w] in [0, 1] where the first stage is an
                upsampler and nothing is given. Pictures under `image` are not looked at.
            indices: [B] sample numbers; a picture depends on (seed, index, its row of the batch) alone.
            seed: of the noise.
            samplings: one for each stage; the stages' own by default.
            given: a picture to begin with. With a hole, all else is kept; where the first stage is an upsampler, it is
                what is enlarged.
            watch: wraps every stage's denoiser, for progress.

        Returns:
            [B, 3, S, S] float32 RGB in [0, 1] of the last stage, rounded to 8 bits, as it is between stages.

        Raises:
            ConfigError: when the picture and the stages do not go together.
        """
        if given is not None or "low_resolution" not in batch:
            self.check(given)
        image: Tensor | None = None
        for number, link in enumerate(self.links):
            told = self._told(number, batch, indices, seed, image, given)
            noise = SampleNoise(seed, indices, _purpose(number))
            sampling = samplings[number] if samplings is not None else link.stage.sampling
            start = self._start(link, given, len(indices)) if number == 0 else None
            known = (link.stage.space.encode(told["known_image"]), told["mask"]) if "mask" in told else None
            x0 = draw(link.stage, told, noise, sampling, wrap=watch, start=start, known=known)
            image = eight_bits(link.stage.space.decode(x0).float().clamp(0, 1))
        assert image is not None
        return image

    def check(self, given: Given | None) -> None:
        """Refuse a picture that the stages have no use for, and to go without where they need one.

        Raises:
            ConfigError: with what is missing.
        """
        first = self.links[0]
        if first.upsampler is not None:
            needs = f"{first.name} enlarges pictures of {first.upsampler.low_size} pixels to {first.side}"
            if given is None:
                raise ConfigError(f"{needs}; give it a picture, or put the export that draws those before it.")
            if given.hole is not None or given.strength is not None:
                raise ConfigError(f"{needs}; a mask or a strength goes to a stage that draws, put one before it.")
        elif given is not None and given.hole is None and given.strength is None:
            raise ConfigError(
                f"{first.name} draws from noise: with a picture goes a mask of what to draw, or a strength in (0, 1]."
            )

    def _told(
        self,
        number: int,
        batch: Mapping[str, Any],
        indices: Sequence[int],
        seed: int,
        image: Tensor | None,
        given: Given | None,
    ) -> dict[str, Any]:
        """What the conditioners of a stage read."""
        link = self.links[number]
        told = {key: value for key, value in batch.items() if key != "image"}  # not what is to be drawn
        told |= {draws.SEEDS: [mixed(seed, _CONDITION + _purpose(number), int(i)) for i in indices]}
        if "prompt" in batch and link.tokenize is not None:
            told.update(link.tokenize(batch["prompt"]))
        if image is not None:
            told["low_resolution"] = image
        elif link.upsampler is not None and given is not None:
            told["low_resolution"] = _repeated(given.image_at(link.upsampler.low_size), len(indices))
        if given is not None and given.hole is not None:
            told["known_image"] = _repeated(given.known_image_at(link.side), len(indices))
            told["mask"] = _repeated(given.known_at(link.side), len(indices))
        return {key: value.to(self.device) if isinstance(value, Tensor) else value for key, value in told.items()}

    def _start(self, link: Link, given: Given | None, size: int) -> tuple[Tensor, float] | None:
        if given is None or given.strength is None:
            return None
        image = _repeated(given.image_at(link.side), size).to(self.device)
        return link.stage.space.encode(image), given.strength


def _purpose(number: int) -> int:
    """Of the draws of a stage in its place; the first draws what its task draws."""
    return 0 if number == 0 else 100 + number


def _check_pair(before: Link, after: Link) -> None:
    upsampler = after.upsampler
    drawn = f"{before.name} draws pictures of {before.side} x {before.side} pixels"
    if upsampler is None:
        raise ConfigError(
            f"{drawn}, and {after.name} takes no smaller picture: it has no LowResolution among its conditioners. Name "
            "an upsampler after it, or draw with one of them."
        )
    if upsampler.low_size != before.side:
        raise ConfigError(
            f"{drawn}, and {after.name} enlarges those of {upsampler.low_size} to {after.side}. Name stages that fit."
        )


def _part(stage: Stage, kind: type) -> Any:
    return next((part for part in stage.conditioners if isinstance(part, kind)), None)


def _repeated(one: Tensor, size: int) -> Tensor:
    return one[None].expand(size, *one.shape)
