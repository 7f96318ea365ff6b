"""VSE++: ranking loss with hardest negatives (Faghri et al. 2018, arXiv:1707.05612, equation 6).

Shape letters: B pairs on this rank, G pairs on all ranks, E joint embedding width.
"""

import torch
from torch import Tensor

from mmfound.batch import ImageTextBatch
from mmfound.distributed import gather_batch
from mmfound.models import DualEncoder
from mmfound.optim import Optim
from mmfound.tasks import Task


def hardest_negative_loss(image_BE: Tensor, text_BE: Tensor, text_id_B: Tensor, margin: float) -> Tensor:
    """Mean over this rank's unit-length pairs of both hinges on the hardest negative; equal captions are none."""
    pair_B1 = (image_BE * text_BE).sum(dim=1, keepdim=True)
    positive_BG = text_id_B[:, None] == gather_batch(text_id_B)

    def hinge(query_BE: Tensor, other_BE: Tensor) -> Tensor:
        cost_BG = margin + query_BE @ gather_batch(other_BE).T - pair_B1
        return cost_BG.masked_fill(positive_BG, 0.0).clamp(min=0).amax(dim=1).mean()

    return hinge(image_BE, text_BE) + hinge(text_BE, image_BE)


class Vsepp(Task):
    """Rank each pair above its hardest negatives in the global batch by `margin` (0.2 in the paper, section 4.1)."""

    batch_type = ImageTextBatch
    whole_batch_loss = True

    def __init__(self, encoder: DualEncoder, optim: Optim, margin: float = 0.2) -> None:
        super().__init__(optim)
        self.encoder = encoder
        self.encoder.logit_scale.requires_grad_(False)  # a margin needs no temperature
        self.margin = margin
        self.embed_image, self.embed_text = encoder.embed_image, encoder.embed_text

    def encode_chunk(self, batch: ImageTextBatch) -> tuple[Tensor, Tensor]:
        return self.embed_image(batch["image"]), self.embed_text(batch["tokens"], batch["token_mask"])

    def compute_losses(self, batch: ImageTextBatch) -> dict[str, Tensor]:
        image_BE, text_BE = self.encode(batch)
        with torch.autocast(image_BE.device.type, enabled=False):  # similarities in float32
            return {"loss": hardest_negative_loss(image_BE, text_BE, batch["text_id"], self.margin)}
