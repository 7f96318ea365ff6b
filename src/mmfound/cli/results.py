"""What validate and test leave behind: `evaluations/` in the run folder."""

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.table import Table

FOLDER = "evaluations"
_SHOWN_ROWS, _SHOWN_COLUMNS, _SHOWN_WIDTH = 32, 8, 100
_LOGGED_CELLS = 2000

Value = str | int | float | None


def tables_of(evaluators: Sequence[Evaluator]) -> dict[str, Table]:
    """The tables of all evaluators by a name of their own, `{evaluator}_{table}`; equal ones are numbered."""
    found: dict[str, Table] = {}
    for evaluator in evaluators:
        for table in evaluator.tables:
            name = f"{evaluator.name}_{table.name}" if evaluator.name else table.name
            again = sum(known == name or known.startswith(f"{name}.") for known in found)
            found[f"{name}.{again + 1}" if again else name] = table
    return found


def fingerprints(evaluators: Sequence[Evaluator]) -> dict[str, dict[str, str]]:
    """Of the sources of every evaluator, by the names of its arguments."""
    found = {}
    for evaluator in evaluators:
        name = f"{type(evaluator).__name__} {evaluator.name}".strip()
        found[name] = {argument: source.fingerprint() for argument, source in evaluator.sources().items()}
    return found


def write(run: Path, split: str, metrics: Mapping[str, Value], tables: Mapping[str, Table], about: Any) -> Path:
    """Replace `{split}.json`, `{split}_metrics.csv` and a CSV per table.

    Args:
        run: the run folder.
        split: val or test.
        metrics: by the names they are logged under.
        tables: as `tables_of` names them.
        about: where the numbers come from, plain values by name.

    Returns:
        The JSON file.
    """
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    shown = {name: {"columns": list(t.columns), "rows": t.rows} for name, t in tables.items()}
    content = _plain({"split": split, **about, "metrics": dict(metrics), "tables": shown})
    path = folder / f"{split}.json"
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    _write_csv(folder / f"{split}_metrics.csv", ["metric", "value"], list(metrics.items()))
    for name, table in tables.items():
        _write_csv(csv_of(folder, split, name), table.columns, table.rows)
    return path


def csv_of(folder: Path, split: str, name: str) -> Path:
    """Where a table is; what a file name cannot hold becomes `_`."""
    return folder / f"{split}_{''.join(c if c.isalnum() or c in '._-' else '_' for c in name)}.csv"


def log(run: Path, split: str, step: int, metrics: Mapping[str, float | None], tables: Mapping[str, Table]) -> None:
    """TensorBoard events of their own in `evaluations/`, so that a run that goes on does not hide them.

    Args:
        run: the run folder.
        split: val or test.
        step: optimiser steps of the weights.
        metrics: scalars; null ones are left out.
        tables: text, of those that are small enough to read.
    """
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    with SummaryWriter(str(run / FOLDER)) as events:
        for name, value in metrics.items():
            if value is not None:
                events.add_scalar(name, value, step)
        for name, table in tables.items():
            if len(table.rows) * len(table.columns) <= _LOGGED_CELLS:
                events.add_text(f"{split}/{name}", _markdown(table), step)


def shown(tables: Mapping[str, Table], folder: Path, split: str) -> str:
    """Small tables for the terminal; large ones by the name of their file."""
    return "\n".join(line for name, table in tables.items() for line in _lines(name, table, folder, split))


def _lines(name: str, table: Table, folder: Path, split: str) -> Iterator[str]:
    cells = [list(table.columns), *([_text(value) for value in row] for row in table.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    fits = len(table.columns) <= _SHOWN_COLUMNS and sum(widths) + 2 * len(widths) <= _SHOWN_WIDTH
    if len(table.rows) > _SHOWN_ROWS or not fits:
        yield f"{name}: {len(table.rows)} rows in {csv_of(folder, split, name)}"
        return
    yield f"{name}:"
    for row in cells:
        aligned = (
            text.ljust(width) if number == 0 else text.rjust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join(aligned).rstrip()


def _markdown(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *([_text(value) for value in row] for row in table.rows)]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)


def _text(value: Value) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """What JSON can hold: a number that is not finite becomes null."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
    temporary = path.with_suffix(".part")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    os.replace(temporary, path)
