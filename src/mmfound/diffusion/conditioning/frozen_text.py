"""Text by a frozen tower.

Shape letters: B texts, L text length, T width of the tower, J width of its pooled text, D width of the network's
tokens, E width of its time embedding.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmfound.diffusion.conditioning.condition import Condition
from mmfound.diffusion.conditioning.conditioner import Conditioner
from mmfound.errors import ConfigError


class FrozenText(Conditioner):
    """Hidden states as tokens and the pooled text as vector, each through a learned projection.

    A dropped text is one learned token, the others masked, and a learned vector. The tower stays in eval mode and
    without gradients whatever the trainer calls, out of optimiser, average and checkpoints (all but DeepSpeed's own);
    exports hold it.

    Args:
        tower: with `hidden(tokens) -> [B, L, T]` and `forward(tokens, token_mask) -> [B, J]`, such as
            `mmfound.weights.pretrained` gives for the part `text_tower`: a run that goes on builds it from there again.
        tower_width: T.
        pooled_width: J.
        width: D.
        embed_dim: E.
        drop: share of training samples whose text is dropped.

    Raises:
        ConfigError: when the tower gives no hidden states.
    """

    reads = ("tokens", "token_mask")
    rebuilt = ("tower",)

    def __init__(
        self, tower: nn.Module, tower_width: int, pooled_width: int, width: int, embed_dim: int, drop: float = 0.0
    ) -> None:
        super().__init__(drop)
        if not callable(getattr(tower, "hidden", None)):
            raise ConfigError(
                f"FrozenText: {type(tower).__name__} has no method `hidden` that gives a state for each token. Use "
                "another tower, or Pooled for its pooled text alone."
            )
        self.tower = tower.requires_grad_(False).eval()
        self.norm = nn.LayerNorm(tower_width)
        self.token_projection = nn.Linear(tower_width, width)
        self.vector_projection = nn.Linear(pooled_width, embed_dim)
        self.null_token = nn.Parameter(torch.randn(width) * 0.02)
        self.null_vector = nn.Parameter(torch.randn(embed_dim) * 0.02)
        self.token_width, self.vector_width = width, embed_dim

    def train(self, mode: bool = True) -> "FrozenText":
        """All but the tower."""
        super().train(mode)
        self.tower.eval()
        return self

    def forward(self, batch: Mapping[str, Any], dropped_B: Tensor) -> Condition:
        """Tokens under a mask, and vector, of `batch["tokens"]` [B, L]."""
        tokens, mask_BL = batch["tokens"], batch["token_mask"]
        with torch.no_grad():
            hidden_BLT, pooled_BJ = self.tower.hidden(tokens), self.tower(tokens, mask_BL)  # pyright: ignore
        tokens_BLD = self.token_projection(self.norm(hidden_BLT))
        vector_BE = self.vector_projection(pooled_BJ)
        is_first_L = torch.arange(tokens.shape[1], device=tokens.device) == 0
        dropped_B1 = dropped_B[:, None]
        return Condition(
            tokens=torch.where(dropped_B1[..., None], self.null_token.to(tokens_BLD.dtype), tokens_BLD),
            mask=torch.where(dropped_B1, is_first_L, mask_BL),
            vector=torch.where(dropped_B1, self.null_vector.to(vector_BE.dtype), vector_BE),
        )
