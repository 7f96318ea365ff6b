from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from mmfound.diffusion import (
    ClassifierFree,
    CosineBetas,
    CosineSchedule,
    Ddpm,
    DiscreteSchedule,
    Epsilon,
    LearnedRange,
    SampleNoise,
    Sampling,
    V,
    draw,
)
from mmfound.diffusion.conditioning import (
    ClassLabels,
    Condition,
    Conditioner,
    FreeForm,
    Inpainting,
    LowResolution,
    NoiseAugmentation,
    Pooled,
    TrainedText,
)
from mmfound.diffusion.spaces import PixelSpace
from mmfound.diffusion.stage import Stage
from mmfound.errors import ConfigError
from mmfound.models import GlideText, UNet
from mmfound.models.unet_parts import ByPatch, ByPixel, Head, Joint, ScaleShift

SIZE = 8


def unet(in_channels: int = 3, out_channels: int = 3, token_width: int | None = None, head: Head | None = None) -> UNet:
    attention = Joint(token_width, head_dim=8)
    net = UNet(in_channels, out_channels, 8, [1, 2], 1, [2], ScaleShift(groups=4), attention=attention, head=head)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)  # a fresh network's output is zero
    return net


def stage(network: nn.Module, *conditioners: Conditioner, **settings: Any) -> Stage:
    given = {"schedule": CosineSchedule(), "prediction": V(), "space": PixelSpace(SIZE), **settings}
    return Stage(network, conditioners=conditioners, **given)


def text(width: int = 8, embed_dim: int = 32, drop: float = 0.1) -> TrainedText:
    return TrainedText(GlideText(16, 6, width, 1, 2, embed_dim), drop=drop)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stage(unet(3), Inpainting(SIZE)), r"in_channels: 3, but is given 7 \(3 of PixelSpace \+ 4 of Inpaint"),
        (
            lambda: stage(unet(), variance=LearnedRange(), schedule=tables()),
            "out_channels: 3, but has to make 6, twice",
        ),
        (lambda: stage(unet(out_channels=6)), "out_channels: 6, but has to make 3, those of the space"),
        (lambda: stage(unet(), space=PixelSpace(9)), "1/2 of their side, which does not divide the 9 pixels"),
        (
            lambda: stage(unet(6), LowResolution(4, 16)),
            "LowResolution makes channels of 16 pixels, but PixelSpace has 8",
        ),
        (lambda: stage(unet(), ClassLabels(4, 24)), "a vector of width 24, but the time embedding of UNet has 32"),
        (lambda: stage(unet(), text()), "tokens of width 8, but the attention of UNet has token_width: None"),
        (lambda: stage(unet(token_width=8), text(embed_dim=8)), "a vector of width 8, but"),
        (lambda: stage(unet(out_channels=6), variance=LearnedRange()), "CosineSchedule has no steps"),
    ],
)
def test_parts_that_do_not_fit_are_both_named(make, message: str):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (Sampling(steps=50), "spacing '10' is 10 times to sample at, and 50 steps are asked for"),
        (Sampling(steps=10, guidance=ClassifierFree(2.0)), "no conditioner is ever dropped in training: ClassLabels"),
        (Sampling(Ddpm(LearnedRange()), steps=10), "Ddpm has variance: LearnedRange, and the stage learns none"),
    ],
)
def test_sampling_that_the_stage_cannot_do_is_refused_before_a_step(sampling: Sampling, message: str):
    schedule = DiscreteSchedule(CosineBetas(), spacing="10")
    with pytest.raises(ConfigError, match=message):
        stage(unet(), ClassLabels(4, 32), schedule=schedule, sampling=sampling)


def test_a_coarse_default_dtype_changes_no_draw():
    made = stage(unet(10), Inpainting(SIZE, FreeForm()), LowResolution(4, SIZE, augmentation=augmentation())).eval()
    batch = {"image": torch.rand(2, 3, SIZE, SIZE), "draw_seed": [1, 2]}
    expected = made.condition(batch, 2), draw(made, batch, SampleNoise(0, [0, 1]), Sampling(steps=2))
    torch.set_default_dtype(torch.bfloat16)  # as bf16-true does within a step
    try:
        found = made.condition(batch, 2), draw(made, batch, SampleNoise(0, [0, 1]), Sampling(steps=2))
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def augmentation() -> NoiseAugmentation:
    return NoiseAugmentation(CosineSchedule(), 32)


def tables() -> DiscreteSchedule:
    return DiscreteSchedule(CosineBetas())


def test_what_the_batch_lacks_is_named_with_who_reads_it():
    with pytest.raises(ConfigError, match=r"TrainedText reads \['token_mask', 'tokens'\], but the batch has only"):
        stage(unet(token_width=8), text()).condition({"image": torch.zeros(2, 3, SIZE, SIZE)}, 2)


def test_rows_are_dropped_at_each_conditioners_own_rate():
    rows = 10_000
    rates, seen = {"label": 0.1, "image_embedding": 0.5}, {}
    parts = [ClassLabels(1, 32, drop=0.1), Pooled("image_embedding", 4, 32, drop=0.5)]
    for part in parts:
        part.forward = lambda batch, dropped_B, key=part.reads[0]: seen.update({key: dropped_B}) or Condition()
    whole = stage(unet(), *parts)
    batch = {"label": None, "image_embedding": None}
    whole.condition(batch, rows, drop="by_rate")
    cell = seen["label"] * 2 + seen["image_embedding"].int()
    expected = [rows * label * 0.5 for label in (0.9, 0.9, 0.1, 0.1)]
    assert chisquare(cell.bincount(minlength=4), expected).pvalue > 1e-3  # independent of each other, too
    for drop, share in (("none", 0.0), ("all", 1.0)):
        whole.condition(batch, rows, drop=drop)
        assert [float(seen[key].float().mean()) for key in rates] == [share, share]


def test_what_is_never_dropped_keeps_its_condition_under_guidance():
    whole = stage(unet(6), LowResolution(4, SIZE), ClassLabels(4, 32, drop=0.2))
    batch = {"image": torch.rand(3, 3, SIZE, SIZE), "label": torch.tensor([0, 1, 2])}
    condition, null = whole.condition(batch, 3), whole.condition(batch, 3, drop="all")
    assert torch.equal(condition.concat, null.concat)
    assert not torch.equal(condition.vector, null.vector)


def test_the_null_of_guidance_is_that_of_training_bit_for_bit():
    whole = stage(unet(token_width=8), text(drop=0.5))
    mask = torch.arange(6) < torch.tensor([1, 2, 3, 4, 5, 6, 2, 3])[:, None]
    batch = {"tokens": torch.randint(3, 16, (8, 6)), "token_mask": mask}
    trained, null = whole.condition(batch, 8, drop="by_rate"), whole.condition(batch, 8, drop="all")
    dropped = (trained.vector == null.vector).all(dim=1)
    assert 0 < int(dropped.sum()) < 8
    assert torch.equal(trained.tokens[dropped], null.tokens[dropped])


def test_a_learned_variance_is_the_second_half_of_the_output():
    whole = stage(unet(out_channels=6), schedule=tables(), prediction=Epsilon(), variance=LearnedRange())
    x_t, level = torch.randn(2, 3, SIZE, SIZE), whole.schedule.level(500)
    condition = whole.condition({}, 2)
    raw = whole.network(x_t, torch.tensor(500.0), condition)
    output, fraction = whole.output(x_t, level, condition)
    torch.testing.assert_close(output, raw[:, :3])
    torch.testing.assert_close(fraction, raw[:, 3:] / 2 + 0.5)
    estimate = whole.denoiser(condition)(x_t, level)
    torch.testing.assert_close(float(level.alpha) * estimate.x0 + float(level.sigma) * output, x_t)


def test_outputs_are_float32_outside_of_autocast():
    whole = stage(unet())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = whole.output(torch.randn(1, 3, SIZE, SIZE), whole.schedule.level(0.5), whole.condition({}, 1))
    assert output.dtype == torch.float32


@pytest.mark.parametrize("head", [ByPatch(), ByPixel(4)])
def test_a_grown_network_makes_what_it_made_before(head: Head):
    parts = [LowResolution(4, SIZE), Inpainting(SIZE)]
    small, large = stage(unet(6, head=head), *parts[:1]), stage(unet(10, head=head), *reversed(parts))
    with pytest.raises(RuntimeError, match="size mismatch"):
        large.load_state_dict(small.state_dict())
    large.load_state_dict(large.fitted(small.state_dict()))
    batch = {"image": torch.rand(2, 3, SIZE, SIZE), "mask": (torch.rand(2, 1, SIZE, SIZE) < 0.5).float()}
    x_t, level = torch.randn(2, 3, SIZE, SIZE), small.schedule.level(0.5)
    before, _ = small.output(x_t, level, small.condition(batch, 2))
    after, _ = large.output(x_t, level, large.condition(batch, 2))
    torch.testing.assert_close(after, before)
    assert float(before.detach().abs().max()) > 0.01


def test_new_channels_stand_before_those_that_were_there():
    small, large = stage(unet(6), LowResolution(4, SIZE)), stage(unet(10), LowResolution(4, SIZE), Inpainting(SIZE))
    with pytest.raises(ConfigError, match=r"3 channels beside .*: LowResolution \(3\), Inpainting \(4\)\."):
        large.fitted(small.state_dict())


def test_weights_that_fit_are_left_alone():
    whole = stage(unet())
    state = whole.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.fitted(state).items())
