"""Classes joined into coarser ones.

Shape letters: n samples of this rank, C classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmfound.errors import DataError
from mmfound.evaluation.embedding import gather_lists


def groups_of(user: str, field: str, metas: Sequence[dict[str, Any]], labels: Sequence[int], classes: int) -> Tensor:
    """The group of every class, read from the samples of all ranks.

    Args:
        user: what asks, as it is called in the recipe.
        field: of a sample's meta, which names its group.
        metas: of this rank's samples.
        labels: their classes.
        classes: how many there are.

    Returns:
        [C] int64 numbers of the groups; -1 for a class without samples.

    Raises:
        DataError: when a sample has no such field, or a class is in two groups.
    """
    pairs = gather_lists([(label, meta.get(field)) for label, meta in zip(labels, metas, strict=True)])
    if any(group is None for _, group in pairs):
        raise DataError(
            f"{user}: a sample has no {field!r} in its meta. Use a source that has, or another group_field."
        )
    group_of = dict(pairs)
    split = next((label for label, group in pairs if group_of[label] != group), None)
    if split is not None:
        raise DataError(f"{user}: samples of class {split} are in more than one {field!r}.")
    number = {name: row for row, name in enumerate(sorted(set(group_of.values()), key=str))}
    return torch.tensor([number[group_of[label]] if label in group_of else -1 for label in range(classes)])
