"""Plug-ins: by class path from a loose file, by short name from an installed package, and broken ones."""

from pathlib import Path

import pytest
import yaml

from mmfound.cli import main

TASK = "from toy import Toy\n\n\nclass Mine(Toy):\n    pass\n"


def install(site: Path, name: str, points: str) -> None:
    """A distribution as pip would leave it."""
    info = site / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[mmfound.plugins]\n{points}\n")


@pytest.fixture
def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages: a good plug-in, and one whose import fails."""
    site = folder / "site"
    install(site, "good-plugin", "MyTask = plugin_good.task:Mine")
    install(site, "bad-plugin", "BadTask = plugin_bad:Task")
    (site / "plugin_good").mkdir()
    (site / "plugin_good" / "task.py").write_text(TASK)
    (site / "plugin_bad.py").write_text("import a_package_that_is_missing\n")
    monkeypatch.syspath_prepend(str(site))
    return site


def test_task_in_a_loose_file_is_named_by_its_class_path(run, folder: Path, recipe):
    (folder / "plugins" / "loose").mkdir(parents=True)
    (folder / "plugins" / "loose" / "task.py").write_text(TASK)
    code, _, err = run("fit", "--config", recipe("toy.Toy\n", "plugins.loose.task.Mine\n"))
    assert code == 0, err
    saved = yaml.safe_load((folder / "runs/changed/config.yaml").read_text())
    assert saved["model"]["class_path"] == "plugins.loose.task.Mine"


def test_recipe_finds_a_task_in_the_file_beside_it(run, folder: Path, recipe):
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "beside_task.py").write_text(TASK)
    Path(recipe("toy.Toy\n", "beside_task.Mine\n")).rename(folder / "elsewhere" / "recipe.yaml")
    assert run("fit", "--config", "elsewhere/recipe.yaml", "--print_config")[0] == 0


def test_installed_task_is_named_by_its_short_name(run, site: Path, recipe):
    for argv in (["--config", recipe("toy.Toy\n", "MyTask\n")], ["--config", "toy/small", "--model", "MyTask"]):
        code, out, err = run("fit", *argv, "--print_config")
        assert code == 0, err
        assert yaml.safe_load(out)["model"]["class_path"] == "plugin_good.task.Mine"


def test_broken_plugin_breaks_only_the_recipe_that_names_it(run, site: Path, recipe):
    assert run("fit", "--config", "toy/small", "--print_config")[0] == 0
    code, _, err = run("fit", "--config", recipe("toy.Toy\n", "BadTask\n"))
    assert code == 2
    assert "cannot import 'plugin_bad.Task': ModuleNotFoundError: No module named 'a_package" in err.splitlines()[0]


def test_plugin_that_is_not_python_is_one_line(run, folder: Path, recipe):
    (folder / "plugins").mkdir()
    (folder / "plugins" / "garbled.py").write_text("class Task(:\n")
    (folder / "plugins" / "wrong.py").write_text("class Task(Missing): ...\n")
    for plugin, says in [("garbled", "SyntaxError"), ("wrong", "NameError: name 'Missing' is not defined")]:
        for part in ("toy.Toy\n", "toy.WideTower"):
            code, _, err = run("fit", "--config", recipe(part, part.replace(part.strip(), f"plugins.{plugin}.Task")))
            assert code == 2
            assert f"cannot import its class: {says}" in err.splitlines()[0]
            assert f"{plugin}.py, line 1)" in err.splitlines()[0]
            assert "Traceback" not in err


def test_name_claimed_twice_is_refused_where_it_is_used(run, site: Path, recipe):
    install(site, "other-plugin", "MyTask = plugin_other:Task")
    code, _, err = run("fit", "--config", recipe("toy.Toy\n", "MyTask\n"))
    assert code == 2
    first = err.splitlines()[0]
    assert "good-plugin 1.2" in first
    assert "other-plugin 1.2" in first
    assert "claimed twice" in run("plugins")[1]
    assert run("fit", "--config", "toy/small", "--print_config")[0] == 0


def test_list_says_where_each_comes_from_and_what_is_broken(run, site: Path, folder: Path):
    (folder / "plugins" / "listed").mkdir(parents=True)
    (folder / "plugins" / "listed" / "task.py").write_text(TASK)
    code, out, _ = run("plugins")
    assert code == 0
    assert "MyTask = plugin_good.task.Mine (good-plugin 1.2): ok" in out
    assert "BadTask = plugin_bad.Task (bad-plugin 1.2): broken: ModuleNotFoundError" in out
    assert "plugins.listed.task (plugins/listed/task.py): ok" in out
    assert "BadTask" in run("doctor")[1]


def test_mistyped_short_name_names_the_nearest(site: Path, recipe, capsys: pytest.CaptureFixture[str]):
    assert main(["fit", "--config", recipe("toy.Toy\n", "MyTsk\n")]) == 2
    assert "did you mean 'MyTask'?" in capsys.readouterr().err.splitlines()[0]
