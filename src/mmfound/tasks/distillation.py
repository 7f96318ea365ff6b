"""Contrastive training of a dual encoder with another one's similarities as further targets."""

import math
from typing import ClassVar

from torch import Tensor

from mmfound.batch import ImageTextBatch
from mmfound.losses.contrastive import clip_loss
from mmfound.losses.distillation import distillation_loss
from mmfound.models import DualEncoder
from mmfound.optim import Optim
from mmfound.tasks.base import Task
from mmfound.tasks.pairs import EncodesPairs, Positives, check_vocabulary, groups, tokenizer_in
from mmfound.teacher import Teacher


class DistilledContrastive(EncodesPairs, Task):
    """`Contrastive`, and the student's choice among the texts (pictures) of the global batch against the teacher's.

    Args:
        encoder: the student: two towers and the learned temperature.
        teacher: frozen; its embeddings may have another width.
        optim: optimiser and learning-rate schedule.
        distillation_weight: of the teacher's targets beside the pairs'; 1 in open_clip.
        max_logit_scale: upper bound on the student's exp(logit_scale).
        positives: what belongs together in the contrastive part: the two sides of a "pair", all pairs with an equal
            "caption", or all with an equal "label".

    Source: open_clip's DistillClipLoss.
    """

    batch_type = ImageTextBatch
    whole_batch_loss: ClassVar[bool] = True

    def __init__(
        self,
        encoder: DualEncoder,
        teacher: Teacher,
        optim: Optim,
        distillation_weight: float = 1.0,
        max_logit_scale: float = 100.0,
        positives: Positives = "pair",
    ) -> None:
        super().__init__(optim)
        self.encoder = encoder
        self.teacher = teacher
        self.distillation_weight = distillation_weight
        self.positives: Positives = positives
        self.bounds = {"encoder.logit_scale": (0.0, math.log(max_logit_scale))}

    def compute_losses(self, batch: ImageTextBatch) -> dict[str, Tensor]:
        """`loss`, its parts `contrastive` and `distillation`, and `logit_scale` as the factor on the similarities."""
        image_BE, text_BE = self.encode(batch)
        scale = self.encoder.logit_scale.to(image_BE.dtype).exp()
        contrastive = clip_loss(image_BE, text_BE, scale, group_B=groups(batch, self.positives))
        distillation = distillation_loss(
            image_BE, text_BE, scale, *self.teacher.embed(batch, self.chunk_size), self.teacher.logit_scale
        )
        loss = contrastive + self.distillation_weight * distillation
        parts = {"contrastive": contrastive.detach(), "distillation": distillation.detach()}
        return {"loss": loss, **parts, "logit_scale": scale.detach().squeeze()}

    def setup(self, stage: str) -> None:
        """Refuse a tokenizer with more ids than the text tower has rows, or whose ids the teacher does not know."""
        super().setup(stage)
        tokenizer = tokenizer_in(self.trainer)
        check_vocabulary(self.encoder.text_tower, tokenizer)
        self.teacher.check_tokenizer(tokenizer)
