"""What a classification did class by class.

Shape letters: N samples of all ranks, C classes.
"""

from collections.abc import Sequence

from torch import Tensor

from mmfound.evaluation.table import Table
from mmfound.metrics.classification import confusion_matrix


def class_tables(
    names: Sequence[str], label_N: Tensor, predicted_N: Tensor, hit_N: Tensor, prefix: str = ""
) -> list[Table]:
    """`per_class`: samples, accuracy and the class it is most often taken for; `confusion`: all of that.

    Args:
        names: of the C classes.
        label_N: int64 classes.
        predicted_N: int64 classes of the best score.
        hit_N: 1 where that counts as right, which may be more often than where it is the label.
        prefix: of the tables' names.
    """
    label_N, predicted_N, hit_N = label_N.cpu(), predicted_N.cpu(), hit_N.cpu().double()
    counts_CC = confusion_matrix(label_N, predicted_N, len(names))
    missed = hit_N < 0.5
    misses_CC = confusion_matrix(label_N[missed], predicted_N[missed], len(names)).fill_diagonal_(0)
    times_C, other_C = misses_CC.max(dim=1)
    hits_C = hit_N.new_zeros(len(names)).index_add_(0, label_N, hit_N)
    rows = [
        [name, samples, hits / samples if samples else None, names[other] if times else None, times]
        for name, samples, hits, other, times in zip(
            names, counts_CC.sum(dim=1).tolist(), hits_C.tolist(), other_C.tolist(), times_C.tolist(), strict=True
        )
    ]
    per_class = Table(f"{prefix}per_class", ["class", "samples", "top1", "most_confused_with", "times"], rows)
    matrix = [[name, *row] for name, row in zip(names, counts_CC.tolist(), strict=True)]
    return [per_class, Table(f"{prefix}confusion", ["class", *names], matrix)]
