"""A class as condition."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmfound.diffusion.conditioning.condition import Condition
from mmfound.diffusion.conditioning.conditioner import Conditioner
from mmfound.errors import ConfigError


class ClassLabels(Conditioner):
    """A learned vector for each class, and one for none of them.

    Args:
        classes: how many.
        embed_dim: width of the network's time embedding.
        drop: share of training samples whose class is dropped.
    """

    reads = ("label",)

    def __init__(self, classes: int, embed_dim: int, drop: float = 0.0) -> None:
        super().__init__(drop)
        self.classes = classes
        self.table = nn.Embedding(classes + 1, embed_dim)  # the last row is the null
        nn.init.normal_(self.table.weight, std=0.02)
        self.vector_width = embed_dim

    def forward(self, batch: Mapping[str, Any], dropped_B: Tensor) -> Condition:
        """Vectors of `batch["label"]`, [B] int64."""
        return Condition(vector=self.table(torch.where(dropped_B, self.classes, batch["label"])))

    def check(self, batch: Mapping[str, Any]) -> None:
        """Refuse labels that have no row."""
        for label in (int(batch["label"].max()), int(batch["label"].min())):
            if not 0 <= label < self.classes:
                raise ConfigError(
                    f"ClassLabels has classes: {self.classes}, but is given label {label}; labels go from 0 to "
                    f"{self.classes - 1}. Set classes to the number of the source's classes."
                )
