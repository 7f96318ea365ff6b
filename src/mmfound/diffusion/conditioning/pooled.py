"""Vectors of other networks as condition.

Shape letters: B batch, J width of the given vector, E width of the network's time embedding.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmfound.diffusion.conditioning.condition import Condition
from mmfound.diffusion.conditioning.conditioner import Conditioner


class Pooled(Conditioner):
    """A vector of the batch, projected; where it is dropped, a learned one takes its place before the projection.

    Args:
        key: of the batch, such as `image_embedding`.
        width: J.
        embed_dim: E.
        drop: share of training samples whose vector is dropped.
    """

    def __init__(self, key: str, width: int, embed_dim: int, drop: float = 0.0) -> None:
        super().__init__(drop)
        self.reads = (key,)
        self.projection = nn.Linear(width, embed_dim)
        self.null = nn.Parameter(torch.randn(width) * 0.02)
        self.vector_width = embed_dim

    def forward(self, batch: Mapping[str, Any], dropped_B: Tensor) -> Condition:
        """Vectors of the batch's [B, J]."""
        given_BJ = batch[self.reads[0]]
        return Condition(
            vector=self.projection(torch.where(dropped_B[:, None], self.null.to(given_BJ.dtype), given_BJ))
        )
