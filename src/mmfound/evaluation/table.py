"""What an evaluator shows beside its metrics."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows under named columns.

    Args:
        name: unique among the evaluator's tables; part of file names.
        columns: their headings.
        rows: a value per column each.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]
