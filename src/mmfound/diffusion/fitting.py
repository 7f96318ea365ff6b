"""Whether the parts of a stage fit one another, and weights that fit but for further channels."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmfound.diffusion.conditioning import Conditioner
from mmfound.diffusion.guidance import Guidance
from mmfound.diffusion.sampling import Sampling
from mmfound.diffusion.schedules import Schedule
from mmfound.diffusion.spaces import Space
from mmfound.diffusion.variances import LearnedRange
from mmfound.errors import ConfigError

_READ = ("network.stem.weight", "network.out.mix.weight")  # what meets x_t and the channels beside it


def check_fit(network: nn.Module, space: Space, conditioners: Sequence[Conditioner], *, learns_variance: bool) -> None:
    """Refuse parts that do not fit; what a network does not say of itself is not checked.

    Args:
        network: may have what `mmfound.models.UNet` has: `stem.in_channels`, `out.channels`, `embed_dim`,
            `token_width`, and `factor`, which divides the sides of its pictures.
        space: of the samples.
        conditioners: in their order.
        learns_variance: whether the network's output has channels for it.

    Raises:
        ConfigError: naming both sides.
    """
    kind, channels, sides = type(network).__name__, space.shape[0], space.shape[1:]
    taken, made = _attribute(network, "stem.in_channels"), _attribute(network, "out.channels")
    beside = [(type(c).__name__, c.channels) for c in conditioners if c.channels]
    given, out = channels + sum(count for _, count in beside), channels * (1 + learns_variance)
    if taken not in (None, given):
        parts = " + ".join(f"{n} of {name}" for name, n in [(type(space).__name__, channels), *beside])
        raise ConfigError(f"{kind} has in_channels: {taken}, but is given {given} ({parts}); set it to {given}.")
    if made not in (None, out):
        why = "twice those of the space, as LearnedRange needs" if learns_variance else "those of the space"
        raise ConfigError(
            f"{kind} has out_channels: {made}, but has to make {out}, {why} ({type(space).__name__}); set it to {out}."
        )
    factor = _attribute(network, "factor") or 1
    if any(side % factor for side in sides):
        raise ConfigError(
            f"{kind} halves pictures down to 1/{factor} of their side, which does not divide the {sides[-1]} pixels of "
            f"{type(space).__name__}; choose another size, or fewer multipliers."
        )
    for conditioner in conditioners:
        _check_conditioner(conditioner, network, space)


def _check_conditioner(conditioner: Conditioner, network: nn.Module, space: Space) -> None:
    name, kind = type(conditioner).__name__, type(network).__name__
    if conditioner.size is not None and conditioner.size != space.shape[-1]:
        raise ConfigError(
            f"{name} makes channels of {conditioner.size} pixels, but {type(space).__name__} has {space.shape[-1]}; "
            "make them equal."
        )
    vector, embed_dim = conditioner.vector_width, _attribute(network, "embed_dim")
    if vector is not None and embed_dim not in (None, vector):
        raise ConfigError(
            f"{name} makes a vector of width {vector}, but the time embedding of {kind} has {embed_dim}; set the "
            f"conditioner's embed_dim to {embed_dim}."
        )
    tokens = conditioner.token_width
    if tokens is not None and hasattr(network, "token_width") and network.token_width != tokens:
        raise ConfigError(
            f"{name} makes tokens of width {tokens}, but the attention of {kind} has token_width: "
            f"{network.token_width}; set it to {tokens}."
        )


def check_sampling(
    sampling: Sampling, schedule: Schedule, conditioners: Sequence[Conditioner], *, learns_variance: bool
) -> None:
    """Refuse sampling that a stage cannot do.

    Raises:
        ConfigError: for a number of steps that the schedule does not have, guidance without a null, and a learned
            variance of which nothing is learned.
    """
    schedule.times(sampling.steps)
    if sampling.guidance is not None and sampling.guidance.needs_null:
        check_droppable(conditioners, sampling.guidance)
    if isinstance(getattr(sampling.sampler, "variance", None), LearnedRange) and not learns_variance:
        raise ConfigError(
            f"{type(sampling.sampler).__name__} has variance: LearnedRange, and the stage learns none; set the stage's "
            "variance to LearnedRange, with twice the output channels, or take it out of the sampler."
        )


def check_droppable(conditioners: Sequence[Conditioner], guidance: Guidance) -> None:
    """Refuse guidance by a null that no conditioner has learned."""
    if any(part.drop > 0 for part in conditioners):
        return
    names = ", ".join(f"{type(part).__name__} (drop {part.drop})" for part in conditioners) or "none"
    raise ConfigError(
        f"{guidance} needs a null that the model was trained with, and no conditioner is ever dropped in training: "
        f"{names}. Sample without guidance (scale 1), or train with drop above 0."
    )


def grown(
    state: Mapping[str, Tensor], network: nn.Module, channels: int, conditioners: Sequence[Conditioner]
) -> dict[str, Tensor]:
    """Zero weights for input channels that the network has and the state has not, behind the first `channels`.

    They are of the stem, and of a head that joins what the network was given.

    Args:
        state: of a stage, its network's weights under `network.`.
        network: of the stage to be.
        channels: of the samples, which come first in the network's input.
        conditioners: of the stage to be, in their order.

    Raises:
        ConfigError: when new channels do not stand before those that were there.
    """
    old, taken = state.get(_READ[0]), _attribute(network, "stem.in_channels")
    if old is None or taken is None or not channels <= old.shape[1] < taken:
        return dict(state)
    beside = [(type(part).__name__, part.channels) for part in conditioners if part.channels]
    last = [sum(count for _, count in beside[first:]) for first in range(len(beside) + 1)]
    if old.shape[1] - channels not in last:
        parts = ", ".join(f"{kind} ({count})" for kind, count in beside)
        raise ConfigError(
            f"the weights have {old.shape[1] - channels} channels beside the {channels} of x_t, and no last ones of "
            f"the conditioners have as many: {parts}. Name new conditioners before those that the weights know."
        )
    more = taken - old.shape[1]
    return {**state, **{name: _grown(state[name], channels, more) for name in _READ if name in state}}


def _grown(weight: Tensor, first: int, more: int) -> Tensor:
    """[out, in, h, w] -> [out, in + more, h, w]."""
    zeros = weight.new_zeros(weight.shape[0], more, *weight.shape[2:])
    return torch.cat([weight[:, :first], zeros, weight[:, first:]], dim=1)


def _attribute(network: nn.Module, path: str) -> Any:
    """A dotted attribute, or None."""
    found: Any = network
    for name in path.split("."):
        found = getattr(found, name, None)
    return found
