"""How far drawing is."""

import pytest
import torch

from mmfound.diffusion.estimates import Estimate
from mmfound.diffusion.noise import SampleNoise
from mmfound.diffusion.samplers import Ddim, Heun
from mmfound.diffusion.schedules import CosineSchedule
from mmfound.generating.progress import Progress


@pytest.mark.parametrize("sampler", [Ddim(), Heun(0)])
def test_a_step_counts_once_however_often_it_asks(sampler, capsys: pytest.CaptureFixture[str]):
    progress = Progress(1, 7, every_s=0, lines=True)
    denoise = progress.watched(lambda x_t, level: Estimate(x_t / 2))
    sampler(denoise, torch.zeros(1, 2), CosineSchedule().levels(7), SampleNoise(0, [0]))
    steps = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert steps == [f"step {number} of 7" for number in range(1, 8)]


def test_the_bar_is_as_long_as_all_batches_and_says_how_many_pictures_there_are():
    with Progress(3, 20, lines=False) as progress:
        progress.finish_batch(2, 10)
        progress.finish_batch(1, 20)
        assert progress._bar is not None
        task = progress._bar.tasks[0]
        assert (task.total, task.completed, task.fields["told"]) == (20, 20, "3 of 3 pictures")
