"""What objectives over pairs of pictures and texts share.

Shape letters: B pairs on this rank, L text length, D width of the image tower, E joint embedding width.
"""

from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from mmfound.batch import ImageTextBatch
from mmfound.errors import ConfigError
from mmfound.models import DualEncoder

if TYPE_CHECKING:
    from mmfound.diffusion.levels import Level

Positives = Literal["pair", "caption", "label"]


class EncodesPairs:
    """The abilities of a task around a `DualEncoder`; named before `Task` among the bases."""

    encoder: DualEncoder

    def encode_chunk(self, batch: ImageTextBatch) -> tuple[Tensor, Tensor]:
        """Both embeddings of each pair, [B, E]."""
        return self.embed_image(batch["image"]), self.embed_text(batch["tokens"], batch["token_mask"])

    def embed_image(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] to [B, E] float32 of unit length."""
        return self.encoder.embed_image(image)

    def embed_noised(self, x_t: Tensor, level: "Level") -> Tensor:
        """[B, 3, H, W] samples of a diffusion process at a level to [B, E] float32 of unit length."""
        return self.encoder.embed_noised(x_t, level)

    def image_features(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] to the image tower's [B, D] before the projection."""
        return self.encoder.image_features(image)

    def embed_text(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """[B, L] int64 ids and [B, L] bool mask to [B, E] float32 of unit length."""
        return self.encoder.embed_text(tokens, token_mask)


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
