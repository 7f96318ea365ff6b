import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmfound.data import Shapes
from mmfound.errors import ConfigError
from mmfound.evaluation import Upscaling
from mmfound.evaluation.upscaling import enlarged, psnr
from tests.evaluation.drawing import data

SOURCE = Shapes(32, 32, split="val")


class Enlarges(nn.Module):
    """By repeating pixels, by bicubic interpolation, or as if it had seen the true picture."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.kind = kind

    def sample_images(self, batch: Mapping[str, Any], indices: Sequence[int], seed: int) -> Tensor:
        assert "image" not in batch
        small = batch["low_resolution"]
        assert small.shape[1:] == (3, 16, 16)
        if self.kind == "bicubic":
            return enlarged(small, torch.empty(1, 1, 32, 32))
        if self.kind == "true":
            return torch.stack([torch.from_numpy(SOURCE[index]["image"]).permute(2, 0, 1) / 255 for index in indices])
        return small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def test_the_gain_is_that_over_bicubic():
    score = Upscaling(SOURCE, 16, samples=32)
    same = score.evaluate(Enlarges("bicubic"), data(SOURCE))
    assert same["psnr_gain"] == 0
    assert 15 < same["psnr"] == same["psnr_bicubic"] < 40
    worse = score.evaluate(Enlarges("repeats"), data(SOURCE))
    assert worse["psnr_gain"] < -0.5
    assert worse["psnr_gain"] == pytest.approx(worse["psnr"] - worse["psnr_bicubic"])
    [rows] = [table.rows for table in score.tables]
    assert [row[0] for row in rows] == ["psnr", "psnr_bicubic", "psnr_gain"]
    assert rows[2][1] == 32
    assert rows[2][4] < worse["psnr_gain"] < rows[2][5] < 0
    assert score.evaluate(Enlarges("true"), data(SOURCE))["psnr"] == 100


def test_psnr_is_its_formula():
    true = torch.zeros(2, 3, 4, 4)
    image = true.clone()
    image[0, :, 0, 0] = 51 / 255
    expected = -10 * math.log10(0.2**2 / 16)
    torch.testing.assert_close(psnr(image, true), torch.tensor([expected, 100.0], dtype=torch.float64))


def test_what_does_not_draw_and_single_pictures_are_refused():
    with pytest.raises(ConfigError, match="no sample_images"):
        Upscaling(SOURCE, 16).check(nn.Linear(1, 1), data(SOURCE))
    with pytest.raises(ConfigError, match="1 samples of 32"):
        Upscaling(SOURCE, 16, samples=1)
