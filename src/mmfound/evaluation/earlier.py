"""Results of earlier models in a CSV: what robustness is compared with.

Columns: `model`, `clean`, one for each shift, and where a shift has only some of the classes `clean_SHIFT`, the clean
accuracy on those. Accuracies in [0, 1].
"""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmfound.errors import ConfigError

FEWEST_MODELS = 5
_LEAST = 1e-3  # accuracies are kept this far from 0 and 1, where the logit is infinite


class EffectiveRobustness:
    """Accuracy above what earlier models lead one to expect at the same clean accuracy.

    Expected is a straight line through the logits of clean and shifted accuracies, by least squares over the models of
    a CSV, accuracies between 0.001 and 0.999.

    Args:
        models: the CSV, with at least five models.

    Raises:
        ConfigError: when it cannot be read, or has too few models.

    Source: Taori et al. 2020, arXiv:2007.00644, sections 2 and 3.
    """

    def __init__(self, models: str) -> None:
        self.path = models
        self._rows = read_results(models)

    def of(self, shift: str, clean: float, shifted: float, *, but: str = "") -> float:
        """How far the accuracy lies above the line; 0.01 is one point.

        Args:
            shift: its column.
            clean: accuracy on the same classes of the reference.
            shifted: accuracy under the shift.
            but: a model that stays out of the fit, the one that is judged.

        Raises:
            ConfigError: when fewer than five models have both, or all have the same clean accuracy.
        """
        slope, offset = self._line(shift, but)
        return shifted - _accuracy(slope * _logit(clean) + offset)

    def check(self, shifts: Sequence[str], *, but: str = "") -> None:
        """Every shift can be fitted.

        Raises:
            ConfigError: as `of` would.
        """
        for shift in shifts:
            self._line(shift, but)

    def _line(self, shift: str, but: str) -> tuple[float, float]:
        rows = [row for row in self._rows if row["model"] != but]
        pairs = [(_clean(self.path, row, shift), _number(self.path, row, shift)) for row in rows]
        known = np.array([(clean, value) for clean, value in pairs if clean is not None and value is not None])
        if len(known) < FEWEST_MODELS:
            raise ConfigError(
                f"effective robustness: {self.path} has {len(known)} models with both a clean accuracy and {shift!r}; "
                f"a fit takes at least {FEWEST_MODELS}. Add models, or leave it out."
            )
        x, y = (np.array([_logit(value) for value in column]) for column in known.T)
        if np.ptp(x) < 1e-9:
            raise ConfigError(f"effective robustness: all models of {self.path} have the same clean accuracy.")
        slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
        return slope, float(y.mean() - slope * x.mean())


class ReferenceModel:
    """The model to be compared with: a row of a CSV of earlier results.

    Args:
        results: the CSV.
        model: which row; may be left out when there is only one.

    Raises:
        ConfigError: when there is no such row.
    """

    def __init__(self, results: str, model: str | None = None) -> None:
        rows = [row for row in read_results(results) if model in (None, row["model"])]
        if len(rows) != 1:
            what = "models; name one of them" if model is None else f"rows called {model!r}; it should be one"
            raise ConfigError(f"reference model: {results} has {len(rows)} {what}.")
        self.path, self._row = results, rows[0]
        self.model = self._row["model"]

    def accuracy(self, shift: str) -> float | None:
        """Its accuracy under a shift, where it is known."""
        return _number(self.path, self._row, shift)


def read_results(path: str) -> list[dict[str, str]]:
    """The rows of a CSV of results.

    Raises:
        ConfigError: when it cannot be read, or has no columns `model` and `clean`.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets begin a CSV with a mark
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"results of earlier models: {path} cannot be read: {error}") from error
    missing = [name for name in ("model", "clean") if name not in columns]
    if missing:
        raise ConfigError(f"results of earlier models: {path} has no column {missing}; it has {list(columns)}.")
    return rows


def check_record(path: str) -> list[dict[str, str]]:
    """The rows that `record` would add to, none where there is no file yet.

    Raises:
        ConfigError: when there is a file that is none of results, or the folder cannot be made.
    """
    if Path(path).exists():
        return read_results(path)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"results of earlier models: {path} cannot be written: {error}") from error
    return []


def record(path: str, model: str, accuracies: Mapping[str, float]) -> None:
    """Put a model's row into a CSV of results, in place of an earlier one of that name; new columns are added.

    Raises:
        ConfigError: as `check_record`.
    """
    earlier = check_record(path)
    rows = [row for row in earlier if row["model"] != model]
    rows.append({"model": model, **{name: f"{value:.6f}" for name, value in accuracies.items()}})
    columns = list(dict.fromkeys(name for row in [*earlier, *rows] for name in row if name))
    unfinished = f"{path}.unfinished"
    with open(unfinished, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(unfinished, path)


def _clean(path: str, row: Mapping[str, str], shift: str) -> float | None:
    own = _number(path, row, f"clean_{shift}")
    return own if own is not None else _number(path, row, "clean")


def _number(path: str, row: Mapping[str, str], column: str) -> float | None:
    text = row.get(column)
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"{path}: {column} of {row['model']!r} is {text!r}; it must be an accuracy in [0, 1].")
    return value


def _logit(accuracy: float) -> float:
    kept = min(max(accuracy, _LEAST), 1 - _LEAST)
    return float(np.log(kept / (1 - kept)))


def _accuracy(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))
