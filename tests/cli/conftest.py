"""A working folder with a toy recipe, where `toy` can be imported; and one with exports to draw with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmfound.cli import main
from tests.embedding.tiny import tiny_export
from tests.generating.stages import classes, clip_export, inpainting, smaller, stage, stage_export, text

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


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports: base and inpaint of 8 pixels, up and inpaint_up to 16, classes, and a dual encoder."""
    place = tmp_path_factory.mktemp("exports")
    stage_export(place / "base", stage(8, text()))
    stage_export(place / "up", stage(16, smaller(8, 16)), seed=1, tokenizer=False)
    stage_export(place / "inpaint", stage(8, inpainting(8), text()), seed=2)
    stage_export(place / "inpaint_up", stage(16, inpainting(16), smaller(8, 16)), seed=3, tokenizer=False)
    stage_export(place / "classes", stage(8, classes()), tokenizer=False)
    stage_export(place / "mute", stage(8, text()), tokenizer=False)
    tiny_export(place / "clip")
    clip_export(place / "noised")
    return place


@pytest.fixture
def place(folder: Path, made: Path) -> Path:
    """The working folder with these exports, a picture of 41 x 27 pixels, and a mask of 9 x 5 in it."""
    for one in made.iterdir():
        (folder / one.name).symlink_to(one)
    pixels = np.random.default_rng(0).integers(0, 256, (27, 41, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    mask = np.zeros((27, 41), np.uint8)
    mask[10:15, 20:29] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return folder
