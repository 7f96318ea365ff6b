"""Mistakes in recipes and options: exit code 2, and the first line says what to write instead."""

from pathlib import Path

import pytest

KEYS = [
    ("max_steps", "max_stps", "the recipe has no option 'trainer.max_stps'; did you mean 'trainer.max_steps'?"),
    ("trainer:", "trainr:", "the recipe has no option 'trainr.max_steps'; did you mean 'trainer.max_steps'?"),
    ("data: {", "dta: {", "the recipe has no option 'dta'; did you mean 'data'?"),
    ("width", "widht", "model.pair.tower: toy.WideTower has no option 'widht'; did you mean 'width'?"),
    ("{tower:", "{towr:", "model.pair: toy.Pair has no option 'towr'; did you mean 'tower'?"),
    ("lr:", "lrr:", "model.optim.optimizer: torch.optim.AdamW has no option 'lrr'; did you mean 'lr'?"),
    ("schedule", "schedul", "model.optim: mmfound.optim.Optim has no option 'schedul'; did you mean 'schedule'?"),
    (
        "init_args:\n    pair",
        "init_arg:\n    pair",
        "model: no key 'init_arg' goes with a class; did you mean 'init_args'?",
    ),
    ("toy.WideTower", "toy.WideTowr", "model.pair.tower: no class 'toy.WideTowr'; did you mean 'toy.WideTower'?"),
    ("mmfound.optim.Con", "mmfound.optm.Con", "no module 'mmfound.optm'; did you mean 'mmfound.optim'?"),
    ("torch.optim.AdamW", "torch.optim.AdmW", "no class 'torch.optim.AdmW'; did you mean 'torch.optim.AdamW'?"),
    ("toy.Toy\n", "Contrastve\n", "model: no class or plug-in 'Contrastve'; did you mean 'mmfound.tasks.Contrastive'?"),
    (
        "toy.WideTower",
        "toy.ToyData",
        "model.pair.tower: Import path toy.ToyData does not correspond to a subclass of Tower",
    ),
    ("width: 3", "width: three", "model.pair.tower.width: Expected a <class 'int'>. Got value: three"),
    ("max_steps: 4", "max_steps: four", "trainer.max_steps: Expected a <class 'int'>. Got value: four"),
    ("data: {class_path: toy.ToyData}", "", "the recipe lacks data"),
]


@pytest.mark.parametrize(("right", "wrong", "says"), KEYS, ids=[wrong.strip() or "no data" for _, wrong, _ in KEYS])
def test_mistyped_key_or_class_in_the_recipe(right: str, wrong: str, says: str, run, recipe):
    code, out, err = run("fit", "--config", recipe(right, wrong))
    assert code == 2
    assert says in err.splitlines()[0]
    assert err.startswith("error: ")
    assert "Traceback" not in err


OPTIONS = [
    ("--trainer.max_stps 3", "no option 'trainer.max_stps'; did you mean 'trainer.max_steps'?"),
    ("--run_dri x", "no option 'run_dri'; did you mean 'run_dir'?"),
    ("--model.pair.tower.widht 3", "model.pair.tower: toy.WideTower has no option 'widht'; did you mean 'width'?"),
    ("--model.pair.towr.width 3", "model.pair: toy.Pair has no option 'towr'; did you mean 'tower'?"),
    (
        "--data.global_batch_siz=3",
        "data: toy.ToyData has no option 'global_batch_siz'; did you mean 'global_batch_size'?",
    ),
    ("--model.pair.tower toy.WideTowr", "no class 'toy.WideTowr'; did you mean 'toy.WideTower'?"),
    ("--trainer.max_steps many", "trainer.max_steps"),
    ("--evaluators [{class_path:toy.Tower}]", "evaluators"),
]


@pytest.mark.parametrize(("option", "says"), OPTIONS, ids=[option for option, _ in OPTIONS])
def test_mistyped_option(option: str, says: str, run):
    code, _, err = run("fit", "--config", "toy/small", *option.split(" "))
    assert code == 2
    assert says in err.splitlines()[0]
    assert "Traceback" not in err


def test_no_recipe_says_how_to_name_one(run):
    code, _, err = run("fit")
    assert code == 2
    assert "--config" in err.splitlines()[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: {a: 1\ntrainer: [", "not valid YAML"),
        ("trainer: {max_steps: 1}\ntrainer: {max_steps: 2}\n", "key 'trainer' is given twice (line 2, column 1)"),
        ("- a\n- b\n", "holds list, not a mapping"),
        ("", "holds NoneType, not a mapping"),
    ],
)
def test_recipe_that_is_not_one(text: str, says: str, run, folder: Path):
    (folder / "bad.yaml").write_text(text)
    code, _, err = run("fit", "--config", "bad.yaml")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "bad.yaml" in err
    assert says in err


def test_recipe_that_is_not_text(run, folder: Path):
    (folder / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    code, _, err = run("fit", "--config", "bad.yaml")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "not UTF-8" in err


def test_folder_instead_of_a_recipe(run):
    code, _, err = run("fit", "--config", "recipes/toy")
    assert code == 2
    assert "recipes/toy is a folder" in err
