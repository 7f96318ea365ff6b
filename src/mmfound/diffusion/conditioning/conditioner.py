"""Parts of a stage that make a `Condition` of a batch."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from mmfound.diffusion.conditioning.condition import Condition
from mmfound.errors import ConfigError


class Conditioner(nn.Module):
    """Reads keys of a batch and fills slots of a `Condition`.

    A row that is dropped gets the null: the very same in training and in guidance, made by the same code. Rows are
    dropped in training with the rate `drop`, each conditioner by its own draw; guidance drops what has a rate above 0.

    Attributes:
        reads: keys of the batch that it needs.

    Args:
        drop: share of training samples that get the null, in [0, 1].
    """

    reads: ClassVar[tuple[str, ...]] = ()

    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        if not 0 <= drop <= 1:
            raise ConfigError(f"{type(self).__name__}: drop is {drop}; it is a share of the samples, from 0 to 1.")
        self.drop = drop

    @abstractmethod
    def forward(self, batch: Mapping[str, Any], dropped_B: Tensor) -> Condition:
        """Make the condition.

        Args:
            batch: on the network's device.
            dropped_B: [B] bool, True on rows that get the null.
        """
