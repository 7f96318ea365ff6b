"""A user's mistake in a shipped recipe: one clear line, the documented exit code, no traceback."""

from pathlib import Path

import pytest

from mmfound.cli import main

SOURCE = "--data.source"
VAL = ["--data.val_source", "null", "--evaluators", "[]"]


def shards(path: Path) -> list[str]:
    return [SOURCE, "mmfound.data.TarShards", "--data.source.urls", str(path)]


def empty_tar(tmp_path: Path) -> Path:
    (tmp_path / "empty.tar").write_bytes(bytes(10_240))
    return tmp_path / "empty.tar"


def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def table(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text("picture,text\na.png,x\n")
    return tmp_path / "t.csv"


def silent_pictures(tmp_path: Path) -> Path:
    from PIL import Image

    (tmp_path / "root" / "cat").mkdir(parents=True)
    for number in range(200):
        Image.new("RGB", (8, 8)).save(tmp_path / "root" / "cat" / f"{number}.png")
    return tmp_path / "root"


def evaluator(**arguments: object) -> list[str]:
    source = {"class_path": "mmfound.data.Digits", "init_args": {"split": "val"}}
    given = {"class_path": "mmfound.evaluation.ZeroShot", "init_args": {"source": source, **arguments}}
    return ["--evaluators", str([given]).replace("'", '"')]


CASES = {
    "missing shards": (3, "no shards at", lambda t: shards(t / "nothing-{000..003}.tar")),
    "empty shards": (3, "no samples", lambda t: shards(empty_tar(t))),
    "a table without the column": (
        3,
        "no column 'image'",
        lambda t: [SOURCE, "mmfound.data.Table", "--data.source.path", str(table(t))],
    ),
    "a folder without classes": (
        3,
        "no folders, so no classes",
        lambda t: [SOURCE, "mmfound.data.ClassFolders", "--data.source.root", str(empty(t))],
    ),
    "no captions": (
        3,
        "caption",
        lambda t: [SOURCE, "mmfound.data.ClassFolders", "--data.source.root", str(silent_pictures(t))],
    ),
    "a class list that does not match": (3, "3 class names", lambda t: evaluator(classes=["a", "b", "c"])),
    "a template without braces": (2, "a photo", lambda t: evaluator(templates=["a photo"])),
    "a batch larger than the data": (2, "global_batch_size", lambda t: ["--data.global_batch_size", "5000"]),
    "an unreadable config": (2, "nowhere.yaml", lambda t: ["--config", str(t / "nowhere.yaml")]),
    "a config that is not YAML": (2, "broken.yaml", lambda t: ["--config", str(broken(t))]),
    "a mistyped key": (2, "did you mean", lambda t: ["--trainer.max_stepz", "3"]),
    "a mistyped class": (2, "did you mean", lambda t: [SOURCE, "mmfound.data.Shapess"]),
    "a value that a constructor refuses": (
        2,
        "RandomResizedCrop: scale",
        lambda t: [
            "--data.train_image",
            '{"class_path": "mmfound.data.RandomResizedCrop", "init_args": {"size": 8, "scale": [2, 3]}}',
        ],
    ),
    "a data set of torchvision that is not there": (
        2,
        "Dataset not found",
        lambda t: [
            "--data.source",
            "mmfound.data.Torchvision",
            "--data.source.dataset",
            "torchvision.datasets.FashionMNIST",
            "--data.source.dataset.root",
            str(t / "nowhere"),
        ],
    ),
    "CLIP's vocabulary missing": (
        2,
        "nowhere.txt.gz",
        lambda t: [
            "--data.tokenizer",
            "mmfound.text.ClipBpe",
            "--data.tokenizer.vocabulary",
            str(t / "nowhere.txt.gz"),
        ],
    ),
}


def broken(tmp_path: Path) -> Path:
    (tmp_path / "broken.yaml").write_text("trainer: [1, 2\nmodel: {")
    return tmp_path / "broken.yaml"


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_gets_one_clear_line_and_its_exit_code(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code, says, make = CASES[case]
    options = make(tmp_path)
    base = ["fit", "--config", "clip/digits", "--run_dir", str(tmp_path / "run"), "--trainer.max_steps", "2"]
    quiet = VAL if "--evaluators" not in options else VAL[:2]
    assert main([*base, "--data.workers", "0", *quiet, *options]) == code
    printed = capsys.readouterr()
    first = next(line for line in printed.err.splitlines() if line.startswith("error:"))
    assert says in first, printed.err
    assert "Traceback" not in printed.err + printed.out


def test_no_disk_space_at_the_start(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert main(["fit", "--config", "clip/digits", "--run_dir", str(tmp_path / "run")]) == 8
    assert capsys.readouterr().err.startswith("error:")
