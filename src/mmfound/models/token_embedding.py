"""The table of token embeddings."""

from torch import Tensor, nn

from mmfound.errors import ConfigError


class TokenEmbedding(nn.Embedding):
    """A row per token id, drawn from N(0, 0.02).

    Args:
        vocab_size: number of rows.
        width: of a row.
    """

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__(vocab_size, width)

    def reset_parameters(self) -> None:
        """Draw the rows anew."""
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """[..., L] int64 ids to [..., L, width].

        Raises:
            ConfigError: on the CPU, when an id has no row (on a GPU the kernel's own assertion fails).
        """
        try:
            return super().forward(tokens)
        except IndexError:
            raise ConfigError(
                f"token id {int(tokens.max())} is beyond the text tower's vocab_size {self.num_embeddings}. "
                "Set vocab_size to the tokenizer's."
            ) from None
