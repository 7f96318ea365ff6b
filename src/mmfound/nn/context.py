"""How long a text may be."""

from torch import Tensor

from mmfound.errors import ConfigError


def check_context(tokens: Tensor, context: int) -> None:
    """Refuse texts that a text transformer has no positions for.

    Args:
        tokens: [B, L] ids.
        context: positions.

    Raises:
        ConfigError: when L is larger.
    """
    length = tokens.shape[1]
    if length > context:
        raise ConfigError(
            f"the texts have {length} tokens, more than the text transformer's context {context}. Set the tokenizer's "
            "context to that, or raise it."
        )
