from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from mmfound.abilities import SamplesImages
from mmfound.callbacks import Ema, SampleImages, StepSeed
from mmfound.data import ImageTextData, Pictures, Resize, Shapes
from mmfound.data.captions import RandomCaption
from mmfound.diffusion import (
    X0,
    ClassifierFree,
    CosineBetas,
    CosineSchedule,
    Ddim,
    DiscreteSchedule,
    Epsilon,
    LearnedRange,
    Sampling,
    Static,
)
from mmfound.diffusion.clip_guidance import ClipGuidance
from mmfound.diffusion.conditioning import Condition, Conditioner, LowResolution, TrainedText
from mmfound.diffusion.objective import variational_losses
from mmfound.diffusion.spaces import PixelSpace
from mmfound.diffusion.stage import Stage
from mmfound.errors import ConfigError
from mmfound.models import GlideText, UNet
from mmfound.models.unet_parts import Joint, ScaleShift
from mmfound.optim import Constant, Optim
from mmfound.tasks import Diffusion
from mmfound.tasks.denoising_checks import check_captions, check_rate, check_x0, memory_needed
from mmfound.text import TrainedBpe
from tests.callbacks.fakes import IGNORED, make_trainer
from tests.generating.stages import clip_export

pytestmark = IGNORED
SIZE, CONTEXT = 8, 16


def glide(size: int = SIZE) -> Stage:
    """The base model's structure, as small as it gets."""
    network = UNet(3, 6, 8, [1, 2], 1, [2], residual=ScaleShift(dropout=0.1, groups=4), attention=Joint(8, head_dim=8))
    sampling = Sampling(Ddim(), steps=3, guidance=ClassifierFree(2.0), threshold=Static())
    return Stage(
        network,
        DiscreteSchedule(CosineBetas()),
        Epsilon(),
        PixelSpace(size),
        [TrainedText(GlideText(320, CONTEXT, 8, 1, 2, 32), drop=0.3)],
        LearnedRange(),
        sampling,
    )


def adam(rate: float = 4e-3) -> Optim:
    return Optim(lambda groups: torch.optim.AdamW(groups, lr=rate), Constant())  # pyright: ignore


def task(seed: int = 0, rate: float = 4e-3) -> Diffusion:
    torch.manual_seed(seed)
    made = Diffusion(glide(), adam(rate))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)  # a fresh network's output is zero
    return made


def batch_of(count: int, first: int = 0) -> dict[str, Any]:
    keys = [f"sample {n}" for n in range(first, first + count)]
    images = [
        torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(n)) for n in range(first, first + count)
    ]
    tokens = torch.arange(first, first + count)[:, None] * 8 + torch.arange(8)
    mask = torch.arange(8) < 3 + torch.arange(first, first + count)[:, None] % 5
    return {"key": keys, "image": torch.stack(images), "tokens": tokens, "token_mask": mask}


@torch.no_grad()
def test_validation_draws_for_each_sample_the_same_in_every_batch():
    module = task().eval()
    whole = module._means(batch_of(12))
    parts = [module._means(batch_of(5)), module._means(batch_of(7, first=5))]
    for name in ("loss", "simple_loss", "loss_t0", "loss_t1", "loss_t2", "loss_t3"):
        counts = [part[name][1] for part in parts]
        assert sum(counts) == whole[name][1]
        mean = sum(float(part[name][0]) * part[name][1] for part in parts) / sum(counts)
        assert mean == pytest.approx(float(whole[name][0]), rel=1e-5), name
    torch.manual_seed(5)
    assert torch.equal(module._means(batch_of(12))["loss"][0], whole["loss"][0])


@torch.no_grad()
def test_losses_by_quarter_average_to_the_simple_one_which_is_a_part_of_the_loss():
    module = task().train()
    means = module._means(batch_of(40))
    loss, simple, bits = (float(means.pop(name)[0]) for name in ("loss", "simple_loss", "bits"))
    assert set(means) == {"loss_t0", "loss_t1", "loss_t2", "loss_t3"}
    assert [count for _, count in means.values()] == [10] * 4  # stratified over the batch
    assert sum(float(value) for value, _ in means.values()) / 4 == pytest.approx(simple, rel=1e-5)
    assert simple + 0.001 * bits == pytest.approx(loss, rel=1e-5)


class Says(Conditioner):
    """Puts the first token into the vector."""

    reads = ("tokens", "token_mask")

    def forward(self, batch: Any, dropped_B: Tensor) -> Condition:
        return Condition(vector=batch["tokens"][:, :1].float())


class Told(nn.Module):
    """Believes that the picture is as bright as the vector says, or does not listen."""

    def __init__(self, listens: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.listens = listens

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        assert condition.vector is not None
        return condition.vector[:, :, None, None].expand_as(x) * self.listens * self.weight


@torch.no_grad()
def test_the_gap_is_what_the_captions_of_others_cost():
    said = torch.tensor([[0], [1], [0], [1]])
    images = said[..., None, None].expand(4, 3, SIZE, SIZE) / 2 + 0.5  # 0 or 1 in the network's range
    batch = {"key": list("abcd"), "image": images, "tokens": said, "token_mask": said >= 0}
    for listens, gap in ((True, 1.0), (False, 0.0)):
        whole = Stage(Told(listens), CosineSchedule(), X0(), PixelSpace(SIZE), [Says()])
        means = Diffusion(whole, adam()).eval()._means(batch)
        assert float(means["conditioning_gap"][0]) == pytest.approx(gap)


@torch.no_grad()
def test_the_bound_is_not_computed_for_the_gap(monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []

    def counted(*args: Any, **options: Any) -> Tensor:
        calls.append(1)
        return variational_losses(*args, **options)

    monkeypatch.setattr("mmfound.tasks.diffusion.variational_losses", counted)
    means = task().eval()._means(batch_of(4))
    assert {"bits", "conditioning_gap"} <= means.keys()
    assert len(calls) == 1


def test_known_pixels_stay_what_they_are():
    batch = batch_of(2)
    text = {name: batch[name] for name in ("tokens", "token_mask")}
    mask = (torch.arange(SIZE) < 3).expand(2, 1, SIZE, SIZE)
    drawn = task().eval().sample_images({**text, "known_image": batch["image"], "mask": mask.float()}, [0, 1], seed=7)
    torch.testing.assert_close(drawn[..., :3], batch["image"][..., :3], rtol=0, atol=1e-6)
    assert not torch.allclose(drawn[..., 3:], batch["image"][..., 3:], atol=0.01)


def test_two_halves_of_a_batch_draw_what_two_ranks_draw_and_cover_the_times_once():
    module = task().train()
    shares = []
    for place in ((0, 8, 3), (4, 8, 3)):
        module.place = place
        shares.append(module._drawn_shares(4))
    assert sorted((torch.cat(shares) * 8).long().tolist()) == list(range(8))
    module.place = None
    assert sorted((module._drawn_shares(8) * 8).long().tolist()) == list(range(8))


def test_it_samples_the_same_picture_in_every_batch():
    module = task().eval()
    assert isinstance(module, SamplesImages)
    batch = batch_of(4)
    text = {name: batch[name] for name in ("tokens", "token_mask")}
    whole = module.sample_images(text, [0, 1, 2, 3], seed=7)
    assert whole.shape == (4, 3, SIZE, SIZE)
    assert 0 <= float(whole.min()) < float(whole.max()) <= 1
    last = module.sample_images({name: value[3:] for name, value in text.items()}, [3], seed=7)
    torch.testing.assert_close(last, whole[3:], rtol=0, atol=1e-5)
    assert not torch.allclose(whole, module.sample_images(text, [0, 1, 2, 3], seed=8))


def test_pictures_of_another_size_are_named_with_the_space():
    batch = {**batch_of(2), "image": torch.zeros(2, 3, 16, 16)}
    with pytest.raises(ConfigError, match="PixelSpace has size: 8, but the pictures have 16 x 16"):
        task().compute_losses(batch)


def data(folder: Path, **options: Any) -> ImageTextData:
    return ImageTextData(
        Shapes(count=64, size=SIZE, objects=(1, 1), styles=["plain"]),
        4,
        val_source=Shapes(count=6, size=SIZE, split="val", objects=(1, 1), styles=["plain"]),
        tokenizer=TrainedBpe(300, CONTEXT),
        train_image=Resize(SIZE),
        eval_image=Resize(SIZE),
        workers=0,
        seed=0,
        **options,
    )


def fit(
    folder: Path,
    steps: int,
    *callbacks: Callback,
    checkpoint: Path | None = None,
    module: Diffusion | None = None,
    **options: Any,
) -> Diffusion:
    module = module or task(seed=steps if checkpoint else 0)
    trainer = make_trainer(folder, [Ema(0.9), StepSeed(7), *callbacks], max_steps=steps, val_check_interval=2)
    trainer.fit(module, datamodule=data(folder, **options), ckpt_path=checkpoint, weights_only=False)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    module.metrics = dict(trainer.callback_metrics)  # pyright: ignore
    return module


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


def test_samples_of_no_such_scale_are_warned_of():
    for scale, message in ((0.01, "mean square of 0.0058"), (3.0, "outside of its bounds")):
        with pytest.warns(UserWarning, match=message):
            check_x0(PixelSpace(SIZE), (torch.rand(4, 3, SIZE, SIZE) * 2 - 1) * scale)
    check_x0(PixelSpace(SIZE), torch.rand(4, 3, SIZE, SIZE) * 2 - 1)  # warnings are errors here


def test_a_rate_far_above_the_published_ones_is_warned_of():
    small, large = nn.Linear(10, 10), nn.Linear(5000, 5000)
    cases = [(small, 1e-2, "0.01 for a network of 0.0 M"), (large, 1e-3, "0.001 for a network of 25 M")]
    for module, rate, message in cases:
        with pytest.warns(UserWarning, match=message):
            check_rate(module, [torch.optim.SGD(module.parameters(), lr=rate)])
    check_rate(small, [torch.optim.SGD(small.parameters(), lr=1e-3)])
    split = nn.Linear(1, 1, bias=False)
    split.weight = nn.Parameter(torch.empty(0))
    split.weight.ds_numel, split.weight.ds_tensor = 25_000_000, torch.zeros(100)  # pyright: ignore - as ZeRO 3 does
    with pytest.warns(UserWarning, match="25 M weights"):
        check_rate(split, [torch.optim.SGD(split.parameters(), lr=1e-3)])
    assert memory_needed(split, [torch.optim.SGD(split.parameters(), lr=1e-3)], averages=False) == 100 * 4 * 2


def test_captions_that_are_cut_are_counted(tmp_path: Path):
    source = data(tmp_path)
    assert source.tokenizer is not None
    source.tokenizer.prepare(source.source.captions, tmp_path)
    check_captions(source)
    source.tokenizer.context = 4
    with pytest.warns(UserWarning, match="64 of the first 64 captions are longer"):
        check_captions(source)


def test_captions_that_are_never_picked_are_not_counted(tmp_path: Path):
    source = data(tmp_path)
    assert source.tokenizer is not None
    source.tokenizer.prepare(lambda: ["a"], tmp_path)
    source.source.captions = lambda: ["a", "a very long one " * 9] * 8  # pyright: ignore - two of each sample
    source.caption = RandomCaption([1, 0])
    check_captions(source)  # warnings are errors here
    source.caption = RandomCaption([1, 1])
    with pytest.warns(UserWarning, match="8 of the first 16 captions are longer"):
        check_captions(source)


def test_memory_is_weights_gradients_moments_and_average():
    module = nn.Linear(100, 10, bias=False)
    adamw, sgd = torch.optim.AdamW(module.parameters()), torch.optim.SGD(module.parameters(), lr=0.1)
    assert memory_needed(module, [adamw], averages=True) == 1000 * 4 * 5
    assert memory_needed(module, [sgd], averages=False) == 1000 * 4 * 2
    assert memory_needed(module.requires_grad_(False), [sgd], averages=True) == 1000 * 4


def test_a_task_begins_with_the_weights_of_one_with_fewer_channels():
    small, large = task(), task(seed=1)
    grown = UNet(7, 6, 8, [1, 2], 1, [2], residual=ScaleShift(groups=4), attention=Joint(8, head_dim=8))
    large.stage.network = grown
    large.load_state_dict(large.fitted(small.state_dict()))
    before, after = small.stage.network.stem.weight, grown.stem.weight  # pyright: ignore
    assert torch.equal(after[:, :3], before)
    assert not after[:, 3:].any()


def test_prompts_alone_are_refused_where_a_picture_is_needed(tmp_path: Path):
    network = UNet(6, 3, 8, [1, 2], 1, residual=ScaleShift(groups=4))
    stage = Stage(network, DiscreteSchedule(CosineBetas()), X0(), PixelSpace(SIZE), [LowResolution(4, SIZE)])
    with pytest.raises(ConfigError, match="SampleImages has prompts, .* LowResolution reads low_resolution or image"):
        fit(tmp_path, 1, SampleImages(["a red circle"]), module=Diffusion(stage, adam()))


def test_a_mask_without_a_picture_is_refused():
    with pytest.raises(ConfigError, match="a mask but no known_image"):
        task().sample_images({"mask": torch.ones(1, 1, SIZE, SIZE)}, [0], 0)


def test_a_clip_in_the_recipe_guides_the_prompts_and_is_missed_before_the_first_step(tmp_path: Path):
    clip_export(tmp_path / "clip", SIZE)
    for folder, expected in (("clip", nullcontext()), ("none", pytest.raises(ConfigError, match="there is no .*none"))):
        module = task()
        module.stage.sampling.steering = ClipGuidance(str(tmp_path / folder), 1.0)
        with expected:
            fit(tmp_path, 1, SampleImages(["a red circle"]), module=module)
    assert (tmp_path / "samples" / "step_1.png").is_file()
