"""Parts of a stage that make a `Condition` of a batch."""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from mmfound.diffusion.conditioning.condition import Condition
from mmfound.errors import ConfigError


class Conditioner(nn.Module):
    """Reads keys of a batch and fills slots of a `Condition`.

    A row that is dropped gets the null: the very same in training and in guidance, made by the same code. Rows are
    dropped in training with the rate `drop`, each conditioner by its own draw; guidance drops what has a rate above 0.
    Further random draws are made through `draws`, so that those of validation and sampling can be fixed.

    Attributes:
        reads: keys of the batch that it needs.
        reads_one_of: further keys, one of which it needs.
        channels: that it puts beside x_t.
        token_width: width of the tokens that it makes, or None.
        vector_width: width of the vector that it makes, or None.
        size: side in pixels of the channels that it makes, or None; that of the stage's space.

    Args:
        drop: share of training samples that get the null, in [0, 1].
    """

    reads: tuple[str, ...] = ()
    reads_one_of: tuple[str, ...] = ()
    channels: int = 0
    token_width: int | None = None
    vector_width: int | None = None
    size: int | None = None

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

    def check_reads(self, keys: Collection[str]) -> None:
        """Refuse a batch with these keys alone when another is needed.

        Raises:
            ConfigError: naming both.
        """
        name, given = type(self).__name__, sorted(keys)
        missing = sorted(set(self.reads) - set(keys))
        if missing:
            raise ConfigError(
                f"{name} reads {missing}, but the batch has only {given}. Set data.init_args.tokenizer, use a source "
                "with captions or labels, or take the conditioner out of model.init_args.stage."
            )
        if self.reads_one_of and not set(self.reads_one_of) & set(keys):
            raise ConfigError(
                f"{name} reads {' or '.join(self.reads_one_of)}, but the batch has only {given}; it needs one of them."
            )

    def check(self, batch: Mapping[str, Any]) -> None:  # noqa: B027 - most have nothing to say about values
        """Refuse values that it cannot take; called on the first batch of a run.

        Raises:
            ConfigError: naming the value.
        """
