from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from mmfound.callbacks import SampleImages
from mmfound.data import Pictures
from mmfound.diffusion import (
    X0,
    CosineBetas,
    DiscreteSchedule,
)
from mmfound.diffusion.clip_guidance import ClipGuidance
from mmfound.diffusion.conditioning import LowResolution
from mmfound.diffusion.spaces import PixelSpace
from mmfound.diffusion.stage import Stage
from mmfound.errors import ConfigError
from mmfound.models import UNet
from mmfound.models.unet_parts import ScaleShift
from mmfound.optim import Constant, Optim
from mmfound.tasks import Diffusion
from tests.callbacks.fakes import IGNORED, make_trainer
from tests.generating.stages import clip_export
from tests.tasks.denoisers import SIZE, adam, data, fit, glide, task

pytestmark = IGNORED


def test_a_resumed_run_is_the_same_run_bit_for_bit(tmp_path: Path):
    for name in ("unbroken", "broken"):
        (tmp_path / name).mkdir()
    fit(tmp_path / "unbroken", 4)
    fit(tmp_path / "broken", 2)
    fit(tmp_path / "broken", 4, checkpoint=tmp_path / "broken" / "2.ckpt")
    one, other = (torch.load(tmp_path / name / "4.ckpt", weights_only=False) for name in ("unbroken", "broken"))
    for part in (one["state_dict"], one["ema"]["average"]):
        assert len(part) > 50
    assert_equal(one["state_dict"], other["state_dict"])
    assert_equal(one["ema"]["average"], other["ema"]["average"])


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_gradients_are_clipped_before_fused_optimisers_in_bfloat16(tmp_path: Path):
    fused = Optim(lambda groups: torch.optim.AdamW(groups, lr=0.0, fused=True), Constant())  # pyright: ignore
    torch.manual_seed(0)
    module, norms = Diffusion(glide(), fused), Norms()
    options = {"precision": "bf16-mixed", "gradient_clip_val": 0.01, "limit_val_batches": 0}
    make_trainer(tmp_path, [norms], max_steps=2, **options).fit(module, datamodule=data(tmp_path))
    assert norms.seen
    assert norms.seen == pytest.approx([0.01] * len(norms.seen), rel=1e-3)


class Norms(Callback):
    """The gradients' norm that the optimiser sees."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
        grads = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
        if grads:
            self.seen.append(float(torch.cat(grads).norm()))


def test_a_run_draws_its_prompts_and_logs_every_quarter(tmp_path: Path):
    prompts = ["a red circle", "a blue star and a green heart and a red circle and a cyan cross"]
    with pytest.warns(UserWarning, match="a prompt is cut, .* more than the context 16"):
        module = fit(tmp_path, 2, SampleImages(prompts))
    assert (tmp_path / "samples" / "step_2.png").is_file()
    names = {"loss", "simple_loss", "bits", "loss_t0", "loss_t1", "loss_t2", "loss_t3", "conditioning_gap"}
    assert {f"val/{name}" for name in names} <= set(module.metrics)  # pyright: ignore


def test_pictures_of_the_validation_source_are_drawn_without_prompts(tmp_path: Path):
    fit(tmp_path, 1, SampleImages(count=3))
    assert (tmp_path / "samples" / "step_1.png").is_file()


def test_nothing_is_drawn_where_no_sample_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(b"no picture")
    source = data(tmp_path)
    source.val_source = Pictures(str(tmp_path))
    monkeypatch.setattr("mmfound.callbacks.sample_images.evaluating", lambda *_: nullcontext())
    trainer: Any = SimpleNamespace(datamodule=source)
    with pytest.warns(UserWarning, match="none of 3 samples of val_source can be read"):
        SampleImages(count=3)._draw(trainer, task())


def test_prompts_alone_are_refused_where_a_picture_is_needed(tmp_path: Path):
    network = UNet(6, 3, 8, [1, 2], 1, residual=ScaleShift(groups=4))
    stage = Stage(network, DiscreteSchedule(CosineBetas()), X0(), PixelSpace(SIZE), [LowResolution(4, SIZE)])
    with pytest.raises(ConfigError, match="SampleImages has prompts, .* LowResolution reads low_resolution or image"):
        fit(tmp_path, 1, SampleImages(["a red circle"]), module=Diffusion(stage, adam()))


def test_a_clip_in_the_recipe_guides_the_prompts_and_is_missed_before_the_first_step(tmp_path: Path):
    clip_export(tmp_path / "clip", SIZE)
    for folder, expected in (("clip", nullcontext()), ("none", pytest.raises(ConfigError, match="there is no .*none"))):
        module = task()
        module.stage.sampling.steering = ClipGuidance(str(tmp_path / folder), 1.0)
        with expected:
            fit(tmp_path, 1, SampleImages(["a red circle"]), module=module)
    assert (tmp_path / "samples" / "step_1.png").is_file()
