import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import linregress

from mmfound.errors import ConfigError
from mmfound.evaluation import EffectiveRobustness, ReferenceModel
from mmfound.evaluation.earlier import read_results, record

CLEAN = [0.55, 0.62, 0.71, 0.76, 0.83, 0.88]
SHIFTED = [0.30, 0.41, 0.45, 0.58, 0.61, 0.75]


def results(path: Path, rows: list[dict[str, str | float]]) -> str:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def models(tmp_path: Path, count: int = 6) -> str:
    rows = [{"model": f"m{row}", "clean": CLEAN[row], "v2": SHIFTED[row]} for row in range(count)]
    return results(tmp_path / "models.csv", rows)


def test_effective_robustness_is_the_residual_of_scipys_regression_of_logits(tmp_path: Path):
    line = linregress(logit(CLEAN), logit(SHIFTED))
    expected = 0.6 - expit(line.slope * logit(0.7) + line.intercept)
    assert EffectiveRobustness(models(tmp_path)).of("v2", 0.7, 0.6) == pytest.approx(expected, abs=1e-12)


def test_models_on_one_line_have_none(tmp_path: Path):
    shifted = expit(1.3 * logit(np.array(CLEAN)) - 0.8)
    path = results(tmp_path / "m.csv", [{"model": c, "clean": c, "v2": s} for c, s in zip(CLEAN, shifted, strict=True)])
    fit = EffectiveRobustness(path)
    assert [fit.of("v2", c, s) for c, s in zip(CLEAN, shifted, strict=True)] == pytest.approx([0] * 6, abs=1e-12)


def test_clean_accuracy_on_the_shifts_own_classes_goes_before_the_overall_one(tmp_path: Path):
    rows: list[dict[str, str | float]] = [
        {"model": f"m{row}", "clean": 0.1 + row / 20, "clean_v2": CLEAN[row], "v2": SHIFTED[row]} for row in range(6)
    ]
    rows[5]["clean_v2"], rows[5]["clean"] = "", CLEAN[5]
    own = EffectiveRobustness(results(tmp_path / "own.csv", rows)).of("v2", 0.7, 0.6)
    assert own == pytest.approx(EffectiveRobustness(models(tmp_path)).of("v2", 0.7, 0.6))


def test_the_judged_model_stays_out_of_the_fit(tmp_path: Path):
    path = models(tmp_path)
    before = EffectiveRobustness(path).of("v2", 0.7, 0.6)
    record(path, "mine", {"clean": 0.7, "v2": 0.6})
    fit = EffectiveRobustness(path)
    assert fit.of("v2", 0.7, 0.6, but="mine") == pytest.approx(before, abs=1e-12)
    assert abs(fit.of("v2", 0.7, 0.6) - before) > 1e-3


def test_accuracies_of_nothing_and_of_everything_have_a_finite_residual(tmp_path: Path):
    assert abs(EffectiveRobustness(models(tmp_path)).of("v2", 1.0, 0.0)) < 1
    path = results(
        tmp_path / "m.csv", [{"model": c, "clean": c, "v2": s} for c, s in zip(CLEAN, [0, *SHIFTED[1:]], strict=True)]
    )
    assert np.isfinite(EffectiveRobustness(path).of("v2", 0.7, 0.6))


def test_fewer_than_five_models_are_refused_naming_file_and_count(tmp_path: Path):
    EffectiveRobustness(models(tmp_path, 5)).check(["v2"])
    with pytest.raises(ConfigError, match=r"models.csv has 4 models with both a clean accuracy and 'v2'.*at least 5"):
        EffectiveRobustness(models(tmp_path, 4)).check(["v2"])
    with pytest.raises(ConfigError, match="has 0 models with both a clean accuracy and 'r'"):
        EffectiveRobustness(models(tmp_path)).check(["r"])


def test_equal_clean_accuracies_are_refused(tmp_path: Path):
    path = results(tmp_path / "m.csv", [{"model": s, "clean": 0.7, "v2": s} for s in SHIFTED])
    with pytest.raises(ConfigError, match="same clean accuracy"):
        EffectiveRobustness(path).check(["v2"])


@pytest.mark.parametrize("value", ["71.2", "high", "nan"])
def test_what_is_no_accuracy_is_refused(tmp_path: Path, value: str):
    rows: list[dict[str, str | float]] = [{"model": "m", "clean": 0.7, "v2": value}]
    with pytest.raises(ConfigError, match=f"v2 of 'm' is '{value}'; it must be an accuracy"):
        ReferenceModel(results(tmp_path / "m.csv", rows)).accuracy("v2")


def test_files_that_hold_no_results_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"none.csv cannot be read"):
        EffectiveRobustness(str(tmp_path / "none.csv"))
    with pytest.raises(ConfigError, match=r"has no column \['clean'\]"):
        ReferenceModel(results(tmp_path / "m.csv", [{"model": "m", "top1": 0.7}]))


def test_the_reference_model_is_a_named_row_or_the_only_one(tmp_path: Path):
    path = models(tmp_path)
    assert ReferenceModel(path, "m2").accuracy("v2") == 0.45
    assert ReferenceModel(path, "m2").accuracy("r") is None
    with pytest.raises(ConfigError, match="has 6 models; name one"):
        ReferenceModel(path)
    with pytest.raises(ConfigError, match="has 0 rows called 'm9'"):
        ReferenceModel(path, "m9")


def test_a_recorded_row_replaces_the_models_earlier_one_and_keeps_the_others(tmp_path: Path):
    path = str(tmp_path / "new" / "results.csv")
    record(path, "a", {"clean": 0.5, "v2": 0.25})
    record(path, "b", {"clean": 0.75, "r": 0.5})
    record(path, "a", {"clean": 0.625, "v2": 0.125})
    rows = {row["model"]: row for row in read_results(path)}
    assert rows["a"] == {"model": "a", "clean": "0.625000", "v2": "0.125000", "r": ""}
    assert rows["b"] == {"model": "b", "clean": "0.750000", "v2": "", "r": "0.500000"}
    assert len(read_results(path)) == 2


def test_a_csv_of_a_spreadsheet_is_read(tmp_path: Path):
    path = tmp_path / "results.csv"
    path.write_text("model,clean\na,0.5\n", encoding="utf-8-sig")
    assert read_results(str(path)) == [{"model": "a", "clean": "0.5"}]
