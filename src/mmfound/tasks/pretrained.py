"""A network as somebody left it, to be evaluated."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from mmfound.errors import ConfigError
from mmfound.models import DualEncoder
from mmfound.optim import Constant, Optim
from mmfound.tasks.base import Task


class Pretrained(Task):
    """A dual encoder that brings its weights along: validate, test and predict need no checkpoint, and fit is refused.

    Args:
        encoder: such as `mmfound.weights.pretrained` gives.
    """

    needs_checkpoint: ClassVar[bool] = False

    def __init__(self, encoder: DualEncoder) -> None:
        super().__init__(Optim(torch.optim.SGD, Constant()))  # pyright: ignore[reportArgumentType]
        self.encoder = encoder

    def setup(self, stage: str) -> None:
        """Refuse to be trained.

        Raises:
            ConfigError: in fit.
        """
        if stage == "fit":
            self.compute_losses(None)

    def embed_image(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] to [B, E] float32 of unit length."""
        return self.encoder.embed_image(image)

    def image_features(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] to the image tower's [B, D] before the projection."""
        return self.encoder.image_features(image)

    def embed_text(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """[B, L] int64 ids and [B, L] bool mask to [B, E] float32 of unit length."""
        return self.encoder.embed_text(tokens, token_mask)

    def compute_losses(self, batch: Any) -> dict[str, Tensor]:
        """There is nothing to minimise.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "Pretrained is evaluated, not trained: leave val_source and test_source out and name evaluators, or train "
            "it with mmfound.tasks.Contrastive and `init_from`."
        )
