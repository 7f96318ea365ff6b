"""Learning rates that differ between the weights of one model: each a multiple of the schedule's."""

import re
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import nn

from mmfound.errors import ConfigError
from mmfound.patterns import check_pattern, matching


class Rates(Protocol):
    """A multiple of the learning rate for every trainable parameter."""

    def __call__(self, module: nn.Module) -> dict[str, float]:
        """Factor by full name, of every parameter that is trained."""
        ...


@runtime_checkable
class Layered(Protocol):
    """A network that knows the depth of its weights."""

    def depths(self) -> dict[str, int]:
        """Depth of every parameter by name: 0 for what the input meets first, most for the head."""
        ...


class LayerDecay:
    """A lower rate the deeper a weight lies below the head of its tower: decay ** (layers above it).

    What is in no tower named, such as the temperature, has the full rate.

    Args:
        decays: by the full name of a tower, such as `encoder.image_tower: 0.65`, in (0, 1].

    Raises:
        ConfigError: when a decay is out of range; where there is no such tower, or it does not know its layers.

    Source: Clark et al. 2020, arXiv:2003.10555; Bao et al. 2022, arXiv:2106.08254, appendix.
    """

    def __init__(self, decays: Mapping[str, float]) -> None:
        wrong = [f"{name}: {decay}" for name, decay in decays.items() if not 0 < decay <= 1]
        if wrong or not decays:
            raise ConfigError(f"LayerDecay: decays has {', '.join(wrong) or 'nothing'}; give a tower's, in (0, 1].")
        self.decays = dict(decays)

    def __call__(self, module: nn.Module) -> dict[str, float]:
        """Factors; of layers that are frozen too, so that freezing changes no other rate."""
        factors = {name: 1.0 for name, parameter in module.named_parameters() if parameter.requires_grad}
        parts = dict(module.named_modules())
        for tower, decay in self.decays.items():
            part = parts.get(tower)
            if not isinstance(part, Layered):
                known = [name for name, other in parts.items() if isinstance(other, Layered)]
                what = "there is none" if part is None else f"a {type(part).__name__} does not know its layers"
                raise ConfigError(f"LayerDecay: {tower}: {what}; there are {', '.join(known) or 'no layered towers'}.")
            depths = part.depths()
            last = max(depths.values())
            scales = {f"{tower}.{name}": decay ** (last - depth) for name, depth in depths.items()}
            factors |= {name: scale for name, scale in scales.items() if name in factors}
        return factors


class RateTable:
    """A multiple of the learning rate by the name of a weight.

    Args:
        table: regular expression of whole names -> multiple, above 0. Every trainable parameter must match exactly one,
            and every pattern some parameter.

    Raises:
        ConfigError: otherwise, naming the parameter or the pattern.
    """

    def __init__(self, table: Mapping[str, float]) -> None:
        for pattern, factor in table.items():
            check_pattern(pattern, "RateTable")
            if factor <= 0:
                raise ConfigError(f"RateTable: {pattern!r} has {factor}; to leave weights as they are, use Freeze.")
        self.table = dict(table)

    def __call__(self, module: nn.Module) -> dict[str, float]:
        """Factors."""
        names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
        for pattern in self.table:
            matching(pattern, names, "RateTable, of what is trained")
        factors = {}
        for name in names:
            found = [pattern for pattern in self.table if re.fullmatch(pattern, name)]
            if len(found) != 1:
                what = " and ".join(repr(pattern) for pattern in found) if found else "no pattern"
                raise ConfigError(f"RateTable: {name} matches {what}; let exactly one match every weight.")
            factors[name] = self.table[found[0]]
        return factors
