"""What is shown, logged and written down of a model's robustness."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmfound.evaluation.table import Table


@dataclass(frozen=True)
class Column:
    """Results under one shift, accuracies in [0, 1]."""

    name: str
    samples: int
    top1: float
    mean_per_class: float
    clean: float  # on the same classes
    chance: float
    effective: float | None
    over_reference: float | None

    @property
    def drop(self) -> float:
        """Clean minus shifted."""
        return self.clean - self.top1


def table_of(columns: Sequence[Column]) -> Table:
    """A column per shift and their mean; rows without any value are left out."""
    rows = [
        ("accuracy", [column.top1 for column in columns]),
        ("mean per class", [column.mean_per_class for column in columns]),
        ("clean, same classes", [column.clean for column in columns]),
        ("drop", [column.drop for column in columns]),
        ("effective robustness", [column.effective for column in columns]),
        ("difference to reference", [column.over_reference for column in columns]),
        ("chance", [column.chance for column in columns]),
    ]
    shown = [[name, *values, _mean(values)] for name, values in rows if any(value is not None for value in values)]
    shown.append(["samples", *(column.samples for column in columns), None])
    return Table("shifts", ["", *(column.name for column in columns), "mean"], shown)


def metrics_of(columns: Sequence[Column]) -> dict[str, float]:
    """By name: those of every shift, and their means."""
    named = {
        "top1": [column.top1 for column in columns],
        "mean_per_class": [column.mean_per_class for column in columns],
        "clean_top1": [column.clean for column in columns],
        "drop": [column.drop for column in columns],
        "effective": [column.effective for column in columns],
        "over_reference": [column.over_reference for column in columns],
    }
    found = {}
    for metric, values in named.items():
        known = {f"{column.name}_{metric}": value for column, value in zip(columns, values, strict=True)}
        found |= {name: value for name, value in known.items() if value is not None}
        if (mean := _mean(values)) is not None:
            found[f"mean_{metric}"] = mean
    return found


def row_of(clean: float, columns: Sequence[Column]) -> dict[str, float]:
    """A row for a CSV of results: see `mmfound.evaluation.earlier`."""
    row = {"clean": clean}
    for column in columns:
        row |= {column.name: column.top1, f"clean_{column.name}": column.clean}
    return row


def _mean(values: Sequence[float | None]) -> float | None:
    """Of all of them, None where one is missing: a mean over fewer shifts is another number."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) and known else None
