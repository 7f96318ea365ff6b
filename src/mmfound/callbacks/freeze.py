"""Weights that stay as they are."""

from collections.abc import Iterator, Sequence
from types import MethodType

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from mmfound.errors import ConfigError
from mmfound.patterns import check_pattern, matching


class Freeze(Callback):
    """Trains without the parameters whose full names match a pattern.

    Acts before weights are sharded and the optimiser is built, so that what is frozen has no gradient, moments or
    average. Checkpoints and exports hold it. A module whose parameters are all frozen stays in eval mode with all its
    parts, whatever the trainer calls: batch normalisation keeps its statistics, dropout and patch dropout are off. One
    that comes before everything trained, such as a whole image tower, leaves no graph behind.

    Args:
        patterns: regular expressions of whole names, such as `encoder.image_tower.*`; all but the head of that tower is
            `encoder.image_tower.(?!model.head).*`.

    Raises:
        ConfigError: when a pattern is no regular expression, or none is given; at the start, when one matches nothing
            or nothing is left to train.

    Source: locked-image tuning (Zhai et al. 2022, arXiv:2111.07991) is this for an image tower.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if isinstance(patterns, str) or not patterns:
            raise ConfigError(f"Freeze: patterns is {patterns!r}; give a list of regular expressions.")
        for pattern in patterns:
            check_pattern(pattern, "Freeze")
        self.patterns = list(patterns)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Freeze."""
        if stage == "fit":
            freeze(pl_module, self.patterns)


def freeze(module: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the parameters of a module whose names match; see `Freeze`."""
    names = [name for name, _ in module.named_parameters()]
    matched = [name for pattern in patterns for name in matching(pattern, names, "Freeze")]
    for name in matched:
        module.get_parameter(name).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError(f"Freeze: {list(patterns)} leave nothing to train; let them match less.")
    for part in _frozen_parts(module):
        part.eval()
        part.train = MethodType(_stay, part)  # pyright: ignore[reportAttributeAccessIssue]


def _frozen_parts(module: nn.Module) -> Iterator[nn.Module]:
    """The largest modules that have parameters, of which none is trained."""
    for part in module.children():
        trained = [parameter.requires_grad for parameter in part.parameters()]
        if any(trained):
            yield from _frozen_parts(part)
        elif trained:
            yield part


def _stay(self: nn.Module, mode: bool = True) -> nn.Module:
    return self
