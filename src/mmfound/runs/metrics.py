"""`metrics.csv`: one row for each logged step, appended, and cut back when a run goes on from an earlier step."""

import csv
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from mmfound.files import sync

NAME = "metrics.csv"


class MetricsCsv(Logger):
    """Writes what the TensorBoard logger gets into a table whose first column is `step`.

    Lightning's CSVLogger starts the file anew when a run goes on. A metric that appears later adds a column, for which
    the file is rewritten.

    Args:
        folder: the run folder.
        steps_done: optimiser steps of the checkpoint that the run goes on from; Lightning counts logged steps from 0,
            so rows of step `steps_done` or later belong to what is done again.
    """

    def __init__(self, folder: Path, steps_done: int = 0) -> None:
        super().__init__()
        self.folder = folder
        self.steps_done = steps_done
        self._columns: list[str] | None = None  # as in the file; None before the first row

    @property
    def name(self) -> str:
        """No subfolder."""
        return ""

    @property
    def version(self) -> str:
        """No subfolder."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: `config.yaml` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row."""
        row = {"step": step, **metrics}
        row.pop("epoch", None)  # Lightning's, which is one ahead at a validation that is caught up on
        if self._columns is None:
            self._open()
        assert self._columns is not None
        new = [name for name in row if name not in self._columns]
        if new:
            self._rewrite(self._columns + new, self._rows())
        with open(self.folder / NAME, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)

    @rank_zero_only
    def save(self) -> None:
        """Make the rows so far survive a power cut."""
        if self._columns is not None:
            sync(self.folder / NAME)

    def rewind(self, steps_done: int) -> None:
        """Drop the rows of steps that are done again."""
        self.steps_done, self._columns = steps_done, None

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [row for row in self._rows() if row.get("step", "").isdigit() and int(row["step"]) < self.steps_done]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        self._rewrite(columns or ["step"], rows)

    def _rows(self) -> list[dict[str, str]]:
        """Rows of the file; a kill may have cut the last one short, which then lacks columns."""
        path = self.folder / NAME
        if not path.is_file():
            return []
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, restval=None))
        return [row for row in rows if None not in row.values()]

    def _rewrite(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        path = self.folder / NAME
        temporary = path.with_suffix(".csv.tmp")
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, path)
        self._columns = columns
