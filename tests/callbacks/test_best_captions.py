from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from mmfound.callbacks import BestCaptions
from mmfound.callbacks.caption_grid import Cell, caption_grid
from mmfound.errors import ConfigError
from tests.callbacks.fakes import IGNORED, Data, NoisyTask, make_trainer
from tests.evaluation.fakes import ColourModel, Colours

pytestmark = IGNORED


class ColourTask(NoisyTask):
    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 1))
        self.colours = ColourModel().requires_grad_(False)

    def embed_image(self, image: Tensor) -> Tensor:
        return self.colours.embed_image(image)

    def embed_text(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        return self.colours.embed_text(tokens, token_mask)


def test_a_labelled_picture_is_saved_and_logged_at_every_validation(tmp_path: Path):
    logger = TensorBoardLogger(tmp_path, name="", version="", default_hp_metric=False)
    trainer = make_trainer(tmp_path, [BestCaptions(images=6)], logger=logger)
    trainer.fit(ColourTask(), datamodule=Data(val=True))
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["step_3.png", "step_6.png"]
    with Image.open(tmp_path / "samples" / "step_6.png") as picture:
        assert picture.width > 4 * 180
    events = EventAccumulator(str(next(tmp_path.glob("events*")))).Reload()
    assert [image.step for image in events.Images("samples/best_captions")] == [3, 6]


def test_the_nearest_captions_are_chosen_and_right_ones_are_marked(tmp_path: Path):
    callback = BestCaptions(Colours(12, wrong=2), images=12)
    trainer = make_trainer(tmp_path, [callback], limit_val_batches=1)
    task = ColourTask()
    trainer.fit(task, datamodule=Data(val=True))
    cells = callback._cells(trainer, task)
    assert [cell.right for cell in cells] == [False, False] + [True] * 10
    assert (cells[0].best, cells[0].own) == ("a red", "a green")


def test_right_captions_are_green_and_wrong_ones_red_over_their_own():
    black = np.zeros((32, 32, 3), dtype=np.uint8)
    cells = [Cell(black, "a cat", True, "a cat"), Cell(black, "a dog", False, "a cow")]
    grid = np.asarray(caption_grid(cells)).astype(int)
    right, wrong = grid[190:, :190], grid[190:, 190:]
    assert (right[..., 1] > right[..., 0] + 50).any()
    assert not (right[..., 0] > right[..., 1] + 50).any()
    assert (wrong[..., 0] > wrong[..., 1] + 50).any()
    assert not (wrong[..., 1] > wrong[..., 0] + 50).any()


def test_a_model_that_does_not_embed_is_refused_before_the_first_step(tmp_path: Path):
    task = NoisyTask(nn.Linear(3, 1))
    with pytest.raises(ConfigError, match="callback BestCaptions needs .* but NoisyTask has no embed_image"):
        make_trainer(tmp_path, [BestCaptions()]).fit(task, datamodule=Data(val=True))
    assert not task.drawn
