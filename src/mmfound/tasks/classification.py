"""Supervised image classification: the twin that a contrastive tower is measured against."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.batch import LabelledImageBatch
from mmfound.models.dual_encoder import image_features
from mmfound.optim import Optim
from mmfound.tasks.base import Task


class Classification(Task):
    """Cross-entropy over the labels of the source.

    Args:
        image_tower: [B, 3, H, W] in [0, 1] to [B, classes] logits, such as `TimmTower` with `embed_dim` the number of
            classes.
        optim: optimiser and learning-rate schedule.
        label_smoothing: share of the target spread over all classes, in [0, 1).
    """

    batch_type = LabelledImageBatch

    def __init__(self, image_tower: nn.Module, optim: Optim, label_smoothing: float = 0.0) -> None:
        super().__init__(optim)
        self.image_tower = image_tower
        self.label_smoothing = label_smoothing

    def classify(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] to [B, classes] float32 logits."""
        return self.image_tower(image).float()

    def image_features(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] to the image tower's [B, D] before the classifier."""
        return image_features(self.image_tower, image)

    def compute_losses(self, batch: LabelledImageBatch) -> dict[str, Tensor]:
        """`loss`, and `top1`: the share of pictures whose largest logit is their label's."""
        logits = self.classify(batch["image"])
        with torch.autocast(logits.device.type, enabled=False):
            loss = F.cross_entropy(logits, batch["label"], label_smoothing=self.label_smoothing)
        return {"loss": loss, "top1": (logits.argmax(dim=1) == batch["label"]).float().mean()}
