"""The results that validate and test leave in the run folder."""

import csv
import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmfound.cli import results
from mmfound.evaluation.table import Table
from tests.evaluation.fakes import Colours
from tests.evaluation.test_linear_probe import Probe

PER_CLASS = Table("per_class", ["class", "top1"], [["a|b", 0.5], ["c", None]])
WIDE = Table("confusion", [str(n) for n in range(50)], [list(range(50))])


def evaluators(name: str, *tables: Table) -> list[Probe]:
    probe = Probe(Colours(12), Colours(18), val_source=Colours(6), name=name)
    probe.tables = list(tables)
    return [probe]


def test_tables_of_one_name_are_kept_apart():
    found = results.tables_of(evaluators("x", PER_CLASS) + evaluators("x", PER_CLASS) + evaluators("", PER_CLASS))
    assert list(found) == ["x_per_class", "x_per_class.2", "per_class"]


def test_json_and_csv_hold_metrics_tables_and_where_they_are_from(tmp_path: Path):
    used = evaluators("x", PER_CLASS)
    about = {"weights": "w", "sources": results.fingerprints(used)}
    path = results.write(tmp_path, "test", {"test/x_top1": 0.25}, results.tables_of(used), about)
    found = json.loads(path.read_text())
    assert found["metrics"] == {"test/x_top1": 0.25}
    assert found["tables"]["x_per_class"] == {"columns": ["class", "top1"], "rows": [["a|b", 0.5], ["c", None]]}
    expected = {"source": "Colours:12", "train_source": "Colours:18", "val_source": "Colours:6"}
    assert (found["weights"], found["sources"]) == ("w", {"Probe x": expected})
    with open(path.parent / "test_x_per_class.csv", newline="") as file:
        assert list(csv.reader(file)) == [["class", "top1"], ["a|b", "0.5"], ["c", ""]]
    with open(path.parent / "test_metrics.csv", newline="") as file:
        assert list(csv.reader(file)) == [["metric", "value"], ["test/x_top1", "0.25"]]
    assert not list(path.parent.glob("*.part"))


def test_numbers_that_are_not_finite_are_null_wherever_they_are(tmp_path: Path):
    nan = Table("t", ["a"], [[float("nan")]])
    path = results.write(tmp_path, "test", {"x": None}, {"t": nan}, {"model": {"bounds": [0.0, float("inf")]}})
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert (found["tables"]["t"]["rows"], found["model"]) == ([[None]], {"bounds": [0.0, None]})


def test_tensorboard_has_scalars_and_small_tables_at_the_step_of_the_weights(tmp_path: Path):
    large = Table("large", ["a"], [[n] for n in range(5000)])
    results.log(tmp_path, "test", 7, {"test/top1": 0.25, "test/none": None}, {"t": PER_CLASS, "large": large})
    events = EventAccumulator(str(tmp_path / results.FOLDER)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("test/top1")] == [(7, 0.25)]
    assert events.Tags()["scalars"] == ["test/top1"]
    (text,) = events.Tags()["tensors"]
    assert b"| a\\|b | 0.5 |" in events.Tensors(text)[0].tensor_proto.string_val[0]


def test_terminal_shows_small_tables_and_names_the_files_of_large_ones():
    shown = results.shown({"x": PER_CLASS, "big/one": WIDE}, Path("run"), "test").splitlines()
    assert shown[:3] == ["x:", "  class  top1", "  a|b     0.5"]
    assert shown[-1] == "big/one: 1 rows in run/test_big_one.csv"


@pytest.mark.parametrize(("subcommand", "split"), [("test", "test"), ("validate", "val")])
def test_both_subcommands_write_results_and_fit_does_not(subcommand: str, split: str, run, folder: Path):
    assert run("fit", "--config", "toy/small")[0] == 0
    assert not (folder / "runs/toy/small" / results.FOLDER).exists()
    code, out, _ = run(subcommand, "--config", "toy/small")
    assert code == 0
    assert f"written: runs/toy/small/evaluations/{split}.json" in out
    found = json.loads((folder / f"runs/toy/small/evaluations/{split}.json").read_text())
    assert found["weights"].endswith("step=00000004.ckpt")
    assert (found["step"], found["seed"], found["sources"]) == (4, 0, {})
    assert list(found["metrics"]) == [f"{split}/loss"]
    assert found["model"]["class_path"] == "toy.Toy"
