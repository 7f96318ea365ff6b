"""Pictures with labels to features, all ranks' in the order of the source.

Shape letters: n samples of this rank, N of all, D features.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mmfound import distributed
from mmfound.data.source import Source
from mmfound.errors import DataError
from mmfound.evaluation.embedding import embed_images, gather_lists

Kind = Literal["embedding", "tower"]
METHODS: dict[Kind, str] = {"embedding": "embed_image", "tower": "image_features"}


@dataclass(frozen=True)
class Labelled:
    """Features [N, D] float32 and labels [N] int64, equal on all ranks."""

    feature_ND: Tensor
    label_N: Tensor

    def __add__(self, other: "Labelled") -> "Labelled":
        """Both behind one another."""
        feature_ND = torch.cat([self.feature_ND, other.feature_ND])
        return Labelled(feature_ND, torch.cat([self.label_N, other.label_N]))

    def take(self, rows: Tensor) -> "Labelled":
        """Some of the samples."""
        return Labelled(self.feature_ND[rows], self.label_N[rows])


def labelled_features(user: str, model: Any, data: Any, source: Source, kind: Kind) -> Labelled:
    """Describe a whole source, each rank its share.

    Args:
        user: what asks, as it is called in the recipe.
        model: has the ability.
        data: gives `eval_batches`.
        source: pictures with labels.
        kind: "embedding" in the joint space, of unit length; "tower" before the projection, as it is.

    Raises:
        DataError: when a sample has no label, or a feature is not finite.
    """
    feature_nD, batches = embed_images(model, data, source, METHODS[kind])
    if any(gather_lists(["label" not in batch for batch in batches])):
        raise DataError(f"{user}: {type(source).__name__} has no labels; use a source that has.")
    label_n, index_n = (torch.cat([batch[name] for batch in batches]) for name in ("label", "index"))
    feature_ND, label_N = distributed.gather_rows(feature_nD), distributed.gather_rows(label_n.to(feature_nD.device))
    order = distributed.gather_rows(index_n.to(feature_nD.device)).argsort()
    if not bool(feature_ND.isfinite().all()):
        rows = int((~feature_ND.isfinite()).any(dim=1).sum())
        raise DataError(
            f"{user}: features of {rows} of {len(feature_ND)} samples of {type(source).__name__} are not finite; "
            "the weights or the precision are at fault."
        )
    return Labelled(feature_ND[order], label_N[order])
