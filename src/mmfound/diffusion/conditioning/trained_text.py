"""Text by a transformer that is trained with the denoiser (GLIDE: Nichol et al. 2021, arXiv:2112.10741)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmfound.diffusion.conditioning.condition import Condition
from mmfound.diffusion.conditioning.conditioner import Conditioner


class TrainedText(Conditioner):
    """Fills tokens and vector. A dropped caption is the empty one, before it is encoded: no token is real.

    Args:
        transformer: ([B, L] ids, [B, L] bool mask) -> ([B, L', D] tokens, [B, E] vector), such as
            `mmfound.models.GlideText`; it must take a text of which nothing is real.
        drop: share of training samples with the empty caption; 0.2 in GLIDE's fine-tuning for guidance.
    """

    reads = ("tokens", "token_mask")

    def __init__(self, transformer: nn.Module, drop: float = 0.0) -> None:
        super().__init__(drop)
        self.transformer = transformer
        self.token_width = getattr(transformer, "width", None)
        self.vector_width = getattr(transformer, "embed_dim", None)

    def forward(self, batch: Mapping[str, Any], dropped_B: Tensor) -> Condition:
        """Tokens and vector of `batch["tokens"]` [B, L] under `batch["token_mask"]`."""
        kept_B1 = ~dropped_B[:, None]
        tokens_BLD, vector_BE = self.transformer(batch["tokens"] * kept_B1, batch["token_mask"] & kept_B1)
        return Condition(tokens=tokens_BLD, vector=vector_BE)
