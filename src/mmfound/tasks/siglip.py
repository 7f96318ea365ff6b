"""Image-text pre-training with a sigmoid for each picture and text (Zhai et al. 2023, arXiv:2303.15343)."""

from typing import ClassVar

from torch import Tensor

from mmfound.batch import ImageTextBatch
from mmfound.errors import ConfigError
from mmfound.losses.sigmoid import siglip_loss
from mmfound.models import DualEncoder
from mmfound.optim import Optim
from mmfound.tasks.base import Task
from mmfound.tasks.pairs import EncodesPairs, Positives, check_vocabulary, groups, tokenizer_in


class Siglip(EncodesPairs, Task):
    """Tell of every picture and text of the global batch whether they belong together.

    Scale and bias are free, and neither decays.

    Args:
        encoder: with a bias; the paper begins with `init_temperature: 0.1` and `init_bias: -10`.
        optim: optimiser and learning-rate schedule.
        positives: what belongs together: only the two sides of a "pair" as in the paper, all pairs with an equal
            "caption", or all with an equal "label" (for small vocabularies, where equal captions meet in a batch).

    Raises:
        ConfigError: when the encoder has no bias.
    """

    batch_type = ImageTextBatch
    whole_batch_loss: ClassVar[bool] = True

    def __init__(self, encoder: DualEncoder, optim: Optim, positives: Positives = "pair") -> None:
        super().__init__(optim)
        if encoder.logit_bias is None:
            raise ConfigError("Siglip needs an encoder with a bias: set encoder.init_bias, -10 in the paper.")
        self.encoder = encoder
        self.positives: Positives = positives

    def compute_losses(self, batch: ImageTextBatch) -> dict[str, Tensor]:
        """`loss`, `logit_scale` as the factor on the similarities, and `logit_bias`."""
        image_BE, text_BE = self.encode(batch)
        assert self.encoder.logit_bias is not None
        bias = self.encoder.logit_bias.to(image_BE.dtype)
        scale = self.encoder.logit_scale.to(image_BE.dtype).exp()
        loss = siglip_loss(image_BE, text_BE, scale, bias, group_B=groups(batch, self.positives))
        return {"loss": loss, "logit_scale": scale.detach().squeeze(), "logit_bias": bias.detach().squeeze()}

    def setup(self, stage: str) -> None:
        """Refuse a tokenizer with more ids than the text tower has rows."""
        super().setup(stage)
        check_vocabulary(self.encoder.text_tower, tokenizer_in(self.trainer))
