"""What objectives over pairs of pictures and texts share.

Shape letters: B pairs on this rank.
"""

from typing import Any, Literal

from torch import Tensor, nn

from mmfound.batch import ImageTextBatch
from mmfound.errors import ConfigError

Positives = Literal["pair", "caption", "label"]


def groups(batch: ImageTextBatch, positives: Positives) -> Tensor | None:
    """[B] int64, equal for pairs that are positives of one another; None where each is its own alone.

    Raises:
        ConfigError: when the batch has no labels that it takes.
    """
    if positives == "pair":
        return None
    if positives == "caption":
        return batch["text_id"]
    if "label" not in batch:
        raise ConfigError(
            f"positives: label needs labels, but the batch has only {sorted(batch)}. "
            "Use a source with labels, or positives: caption."
        )
    return batch["label"]


def check_vocabulary(text_tower: nn.Module, tokenizer: Any) -> None:
    """Refuse a tokenizer with more ids than the text tower has rows; on a GPU that ends in a device assertion.

    Raises:
        ConfigError: with both numbers.
    """
    table: Any = getattr(text_tower, "token_embedding", None)
    if tokenizer is not None and table is not None and tokenizer.vocab_size > table.num_embeddings:
        raise ConfigError(
            f"the text tower has vocab_size {table.num_embeddings}, but {type(tokenizer).__name__} makes "
            f"{tokenizer.vocab_size} ids. Set the text tower's vocab_size to that."
        )


def tokenizer_in(trainer: Any) -> Any:
    """Of the data that a trainer reads; None where it has none."""
    return getattr(getattr(trainer, "datamodule", None), "tokenizer", None)
