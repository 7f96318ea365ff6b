"""A working folder with a toy recipe, where `toy` can be imported."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mmfound.cli import main

RECIPE = """# A toy.
trainer: {max_steps: 4, accelerator: cpu, val_check_interval: 2, log_every_n_steps: 1, enable_progress_bar: false}
model:
  class_path: toy.Toy
  init_args:
    pair: {tower: {class_path: toy.WideTower, init_args: {width: 3}}}
    optim:
      optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 1e-2}}
      schedule: {class_path: mmfound.optim.Constant}
data: {class_path: toy.ToyData}
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with `recipes/toy/small.yaml`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    (tmp_path / "recipes" / "toy").mkdir(parents=True)
    (tmp_path / "recipes" / "toy" / "small.yaml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls the command line: exit code, standard output, standard error."""

    def call(*argv: str) -> tuple[int, str, str]:
        code = main(argv)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def recipe(folder: Path) -> Callable[[str, str], str]:
    """Writes the toy recipe with one text replaced by another, and returns its path."""

    def write(old: str, new: str) -> str:
        assert old in RECIPE
        (folder / "changed.yaml").write_text(RECIPE.replace(old, new))
        return "changed.yaml"

    return write
