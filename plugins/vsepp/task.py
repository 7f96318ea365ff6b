"""VSE++: ranking loss with hardest negatives (Faghri et al. 2018, arXiv:1707.05612, equation 6).

Shape letters: B pairs on this rank, G pairs on all ranks, E joint embedding width.
"""

import torch
from torch import Tensor

from mmfound.batch import ImageTextBatch
from mmfound.distributed import gather_batch, gather_rows
from mmfound.models import DualEncoder
from mmfound.optim import Optim
from mmfound.tasks import Task


def hardest_negative_loss(image_BE: Tensor, text_BE: Tensor, text_id_B: Tensor, margin: float) -> Tensor:
    """Hinge on the hardest negative of each image and of each text in the global batch, summed over both directions.

    Args:
        image_BE: unit-length image embeddings.
        text_BE: unit-length embeddings of their captions.
        text_id_B: equal where captions are equal; such pairs are no negatives of each other.
        margin: least distance between the similarity of a pair and of its hardest negative.

    Returns:
        Mean over this rank's pairs, in [0, 2 * (2 + margin)].
    """
    pair_B1 = (image_BE * text_BE).sum(dim=1, keepdim=True)
    positive_BG = text_id_B[:, None] == gather_rows(text_id_B)[None, :]

    def hinge(query_BE: Tensor, other_BE: Tensor) -> Tensor:
        cost_BG = margin + query_BE @ gather_batch(other_BE).T - pair_B1
        return cost_BG.masked_fill(positive_BG, 0.0).clamp(min=0).amax(dim=1).mean()

    return hinge(image_BE, text_BE) + hinge(text_BE, image_BE)


class Vsepp(Task):
    """Rank the pair above the hardest negative by a margin.

    Args:
        encoder: the two towers; its temperature is not used.
        optim: optimiser and learning-rate schedule.
        margin: 0.2 in the paper (section 4.1).
    """

    batch_type = ImageTextBatch
    whole_batch_loss = True

    def __init__(self, encoder: DualEncoder, optim: Optim, margin: float = 0.2) -> None:
        super().__init__(optim)
        self.encoder = encoder
        self.encoder.logit_scale.requires_grad_(False)
        self.margin = margin
        self.embed_image = encoder.embed_image
        self.embed_text = encoder.embed_text

    def compute_losses(self, batch: ImageTextBatch) -> dict[str, Tensor]:
        image_BE = self.embed_image(batch["image"])
        text_BE = self.embed_text(batch["tokens"], batch["token_mask"])
        with torch.autocast(image_BE.device.type, enabled=False):
            return {"loss": hardest_negative_loss(image_BE, text_BE, batch["text_id"], self.margin)}
