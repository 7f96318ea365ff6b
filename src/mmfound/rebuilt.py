"""Frozen parts that a recipe builds together with their weights: exports hold them, checkpoints do not.

A module names such parts of its own in an attribute `rebuilt`. A run that goes on reads them from where the recipe has
them, as it did at its start.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

Value = TypeVar("Value")


def without_rebuilt(module: nn.Module, state: Mapping[str, Value], prefix: str = "") -> dict[str, Value]:
    """What of a state dict is no weight of a part that is rebuilt.

    Args:
        module: whose state it is.
        state: by name.
        prefix: in front of all its names.
    """
    parts = tuple(f"{prefix}{part}." for part in rebuilt_parts(module))
    return {name: value for name, value in state.items() if not (parts and name.startswith(parts))}


def rebuilt_parts(module: nn.Module) -> list[str]:
    """Dotted names of the parts that are rebuilt."""
    return [
        f"{name}.{part}" if name else part
        for name, inner in module.named_modules()
        for part in getattr(inner, "rebuilt", ())
    ]


class KeepsRebuiltOut(nn.Module):
    """Leaves parts that are rebuilt out of its state dict, and ignores them in one that it loads.

    Exports are written from the state dict of a part of a task, which has all.
    """

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As `nn.Module.state_dict`."""
        prefix = args[1] if len(args) > 1 else kwargs.get("prefix", "")
        whole = super().state_dict(*args, **kwargs)
        for name in whole.keys() - without_rebuilt(self, whole, prefix).keys():
            del whole[name]
        return whole

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As `nn.Module.load_state_dict`."""
        own = super().state_dict(keep_vars=True)
        rest = own.keys() - without_rebuilt(self, own).keys()
        given = without_rebuilt(self, state_dict)
        return super().load_state_dict({**given, **{name: own[name] for name in rest}}, strict, assign)
