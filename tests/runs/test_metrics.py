"""metrics.csv: appended, widened, cut back."""

import csv
from pathlib import Path

from mmfound.runs.metrics import MetricsCsv


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_first_column_is_the_step_and_new_metrics_add_columns(tmp_path: Path):
    log = MetricsCsv(tmp_path)
    log.log_metrics({"train/loss": 1.5}, 0)
    log.log_metrics({"val/loss": 0.5}, 0)
    log.log_metrics({"train/loss": 1.25}, 1)
    assert rows(tmp_path) == [
        {"step": "0", "train/loss": "1.5", "val/loss": ""},
        {"step": "0", "train/loss": "", "val/loss": "0.5"},
        {"step": "1", "train/loss": "1.25", "val/loss": ""},
    ]


def test_resumed_log_keeps_what_came_before_the_checkpoint(tmp_path: Path):
    log = MetricsCsv(tmp_path)
    for step in range(5):
        log.log_metrics({"train/loss": 10.0 + step, "val/loss": 1.0}, step)
    again = MetricsCsv(tmp_path, steps_done=3)
    again.log_metrics({"train/loss": 99.0}, 3)
    assert [(row["step"], row["train/loss"]) for row in rows(tmp_path)] == [
        ("0", "10.0"),
        ("1", "11.0"),
        ("2", "12.0"),
        ("3", "99.0"),
    ]


def test_row_cut_short_by_a_kill_is_dropped(tmp_path: Path):
    (tmp_path / "metrics.csv").write_text("step,a,b\n0,1,2\n1,3")
    MetricsCsv(tmp_path, steps_done=2).log_metrics({"a": 5.0, "b": 6.0}, 2)
    assert [row["step"] for row in rows(tmp_path)] == ["0", "2"]


def test_a_new_run_in_the_folder_starts_an_empty_table(tmp_path: Path):
    MetricsCsv(tmp_path).log_metrics({"a": 1.0}, 7)
    MetricsCsv(tmp_path).log_metrics({"b": 2.0}, 0)
    assert rows(tmp_path) == [{"step": "0", "b": "2.0"}]
