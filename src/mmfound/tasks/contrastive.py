"""Contrastive image-text pre-training (Radford et al. 2021, arXiv:2103.00020, section 2.3)."""

import math
from typing import ClassVar

from torch import Tensor

from mmfound.batch import ImageTextBatch
from mmfound.losses.contrastive import clip_loss
from mmfound.models import DualEncoder
from mmfound.optim import Optim
from mmfound.tasks.base import Task
from mmfound.tasks.pairs import EncodesPairs, Positives, check_vocabulary, groups, tokenizer_in


class Contrastive(EncodesPairs, Task):
    """Pull paired image and text embeddings together, push all other pairs in the global batch apart.

    Args:
        encoder: the two towers and the learned temperature.
        optim: optimiser and learning-rate schedule.
        max_logit_scale: upper bound on exp(logit_scale); 100 in the paper (section 2.5).
        positives: what belongs together: only the two sides of a "pair" as in the paper, all pairs with an equal
            "caption", or all with an equal "label" (for small vocabularies, where equal captions meet in a batch).
    """

    batch_type = ImageTextBatch
    whole_batch_loss: ClassVar[bool] = True

    def __init__(
        self,
        encoder: DualEncoder,
        optim: Optim,
        max_logit_scale: float = 100.0,
        positives: Positives = "pair",
    ) -> None:
        super().__init__(optim)
        self.encoder = encoder
        self.positives: Positives = positives
        self.bounds = {"encoder.logit_scale": (0.0, math.log(max_logit_scale))}

    def compute_losses(self, batch: ImageTextBatch) -> dict[str, Tensor]:
        """`loss`, and `logit_scale` as the factor on the similarities."""
        image_BE, text_BE = self.encode(batch)
        scale = self.encoder.logit_scale.to(image_BE.dtype).exp()
        loss = clip_loss(image_BE, text_BE, scale, group_B=groups(batch, self.positives))
        return {"loss": loss, "logit_scale": scale.detach().squeeze()}

    def setup(self, stage: str) -> None:
        """Refuse a tokenizer with more ids than the text tower has rows."""
        super().setup(stage)
        check_vocabulary(self.encoder.text_tower, tokenizer_in(self.trainer))
