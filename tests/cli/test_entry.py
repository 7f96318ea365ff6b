"""Commands that need no torch, and the exit codes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import mmfound
from mmfound.cli import main

FAST = [
    ["--help"],
    [],
    ["--version"],
    ["embed"],
    ["search"],
    ["generate"],
    ["score", "--help"],
    ["recipes"],
    ["recipes", "show", "toy/small"],
    ["plugins"],
    ["doctor"],
]


@pytest.mark.parametrize("argv", FAST, ids=" ".join)
def test_looking_around_imports_no_torch_and_costs_less_than_a_second(argv: list[str], folder: Path):
    program = (
        "import sys, time; from mmfound.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'lightning', 'jsonargparse'} & set(sys.modules); "
        "assert not heavy, heavy; assert time.process_time() < 1, time.process_time(); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_version_is_the_packages(run):
    assert run("--version") == (0, f"mmfound {mmfound.__version__}\n", "")


def test_mistyped_command_names_the_nearest(run):
    code, _, err = run("recipe")
    assert code == 2
    assert err == "error: no command 'recipe'; did you mean 'recipes'?\n"


def test_recipes_lists_title_and_overlays(run):
    code, out, _ = run("recipes")
    assert code == 0
    assert "toy/small" in out
    assert "A toy" in out
    assert "machines/cpu" in out


def test_shown_recipe_is_the_file(run, folder: Path):
    code, out, _ = run("recipes", "show", "toy/small")
    assert code == 0
    assert (folder / "recipes/toy/small.yaml").read_text() in out


def test_mistyped_recipe_names_the_nearest(run):
    for argv in (["recipes", "show", "toy/smal"], ["fit", "--config", "toy/smal"], ["fit", "--config=toy/smal"]):
        code, _, err = run(*argv)
        assert code == 2
        assert err == "error: no recipe 'toy/smal'; did you mean 'toy/small'?\n"


def test_module_runs_like_the_command(folder: Path):
    done = subprocess.run([sys.executable, "-m", "mmfound", "recipes", "shw"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "did you mean 'show'?" in done.stderr


@pytest.mark.parametrize(
    ("kind", "code", "last"),
    [("data", 3, "error: no picture in 3.tar"), ("bug", 1, "ZeroDivisionError: a bug"), ("user", 130, "interrupted")],
)
def test_exit_code_tells_what_ended_the_run(kind: str, code: int, last: str, run, recipe):
    found, _, err = run("fit", "--config", recipe("toy.Toy\n", "toy.Fails\n"), "--model.kind", kind)
    assert found == code
    assert err.strip().splitlines()[-1] == last
    assert ("Traceback" in err) == (kind == "bug")


def test_own_mistake_in_a_constructor_is_one_line(run):
    code, _, err = run("fit", "--config", "toy/small", "--model.pair.tower.width", "500")
    assert (code, err) == (2, "error: width 500 is too much; use 100 or less\n")
    other = ["--model.pair.other", "toy.Tower", "--model.pair.other.width", "500"]
    code, _, err = run("fit", "--config", "toy/small", *other)
    assert (code, err) == (2, "error: width 500 is too much; use 100 or less\n")


def test_data_worker_error_is_shown_without_its_traceback(capsys: pytest.CaptureFixture[str], monkeypatch):
    from mmfound.cli import entry
    from mmfound.errors import DataError

    def fail(argv: list[str]) -> int:
        raise DataError(
            "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
            '  File "x.py", line 3\nmmfound.errors.DataError: 3.tar is cut short; download it again\n'
        )

    monkeypatch.setitem(entry._COMMANDS, "doctor", fail)
    assert main(["doctor"]) == 3
    assert capsys.readouterr().err == "error: 3.tar is cut short; download it again\n"


def test_fit_help_lists_only_fit(run):
    started = time.process_time()
    code, out, _ = run("fit", "--help")
    assert code == 0
    assert "--evaluators" in out
    assert "--run_dir" in out
    assert time.process_time() - started < 20
