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
from mmfound.tasks.pairs import Positives, check_vocabulary, groups, tokenizer_in
from mmfound.teacher import Teacher


class DistilledContrastive(Task):
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

    def encode_chunk(self, batch: ImageTextBatch) -> tuple[Tensor, Tensor]:
        """The student's embeddings of each pair, [B, E]; the teacher's are computed once, as they have no gradient."""
        return self.embed_image(batch["image"]), self.embed_text(batch["tokens"], batch["token_mask"])

    def embed_image(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] to [B, E] float32 of unit length."""
        return self.encoder.embed_image(image)

    def image_features(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] to the image tower's [B, D] before the projection."""
        return self.encoder.image_features(image)

    def embed_text(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """[B, L] int64 ids and [B, L] bool mask to [B, E] float32 of unit length."""
        return self.encoder.embed_text(tokens, token_mask)

    def setup(self, stage: str) -> None:
        """Refuse a tokenizer with more ids than the text tower has rows, or whose ids the teacher does not know."""
        super().setup(stage)
        tokenizer = tokenizer_in(self.trainer)
        check_vocabulary(self.encoder.text_tower, tokenizer)
        self.teacher.check_tokenizer(tokenizer)
