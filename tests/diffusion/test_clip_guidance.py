"""CLIP guidance: its gradient, what it makes of samples, and where its texts come from."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.building import build
from mmfound.diffusion import (
    X0,
    ClassifierFree,
    ClipGuidance,
    CosineBetas,
    CosineSchedule,
    Ddim,
    Ddpm,
    DiscreteSchedule,
    FixedLarge,
    Level,
    SampleNoise,
    Sampling,
    Static,
    add_noise,
    draw,
    spread,
)
from mmfound.diffusion.conditioning import Condition, Conditioner
from mmfound.diffusion.estimates import Denoiser, Estimate
from mmfound.diffusion.spaces import PixelSpace
from mmfound.diffusion.stage import Stage
from mmfound.errors import ConfigError
from mmfound.models import Cbow, DualEncoder, NoisedTower, TimedConv
from mmfound.text import TrainedBpe
from mmfound.weights import export

SCHEDULE = CosineSchedule()
TOKENS = {"tokens_clip": torch.tensor([[3, 4], [5, 6]]), "token_mask_clip": torch.ones(2, 2, dtype=torch.bool)}


class Linear(nn.Linear):
    """An image tower that is told levels and does not care."""

    image_size = width = 4

    def forward(self, image: Tensor, number: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(image.flatten(1))


class Tilt(nn.Module):
    """Scores samples by `gain(level)` times the sum of their values, weighted by the text's one token."""

    def __init__(self, gain: Any) -> None:
        super().__init__()
        self.gain = gain
        self.logit_scale = nn.Parameter(torch.tensor([math.log(2.0)], dtype=torch.float64), requires_grad=False)

    def embed_noised(self, x_t: Tensor, level: Level) -> Tensor:
        return x_t.flatten(1) * spread(self.gain(level), x_t.flatten(1))

    def embed_text(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        return tokens[:, :1].double().expand(-1, 48)


def clip() -> DualEncoder:
    tower = TimedConv(16, 8, 8)
    for layer in tower.layers:
        nn.init.normal_(layer.time.weight)
    return DualEncoder(NoisedTower(tower, SCHEDULE), Cbow(20, 8, 8)).eval().requires_grad_(False)


def half(x_t: Tensor, level: Level) -> Estimate:
    return Estimate(x_t / 2, torch.ones_like(x_t))


def gaussian(x_t: Tensor, level: Level, mean: float = 0.3, deviation: float = 0.5) -> Estimate:
    """The exact denoiser of independent Gaussian values."""
    alpha, variance = spread(level.alpha, x_t), spread(level.sigma**2, x_t)
    total = alpha**2 * deviation**2 + variance
    return Estimate((alpha * deviation**2 * x_t + variance * mean) / total)


def test_the_estimate_moves_by_the_gradient_of_the_scaled_cosine_in_closed_form():
    encoder = DualEncoder(NoisedTower(Linear(48, 8), SCHEDULE), Cbow(20, 8, 8)).double().eval().requires_grad_(False)
    x_t, level = torch.randn(2, 3, 4, 4, dtype=torch.float64), SCHEDULE.level(0.4)
    guided = ClipGuidance(encoder, 1.7)(half, TOKENS)(x_t, level)
    text_BE = encoder.embed_text(TOKENS["tokens_clip"], TOKENS["token_mask_clip"])
    weight = encoder.image_tower.tower.weight
    raw_BE = encoder.image_tower.tower(x_t / 2 + 0.5, torch.zeros(2))
    unit_BE = F.normalize(raw_BE, dim=1)
    across_BE = text_BE - unit_BE * (unit_BE * text_BE).sum(dim=1, keepdim=True)
    gradient = encoder.logit_scale.exp() * (across_BE / raw_BE.norm(dim=1, keepdim=True)) @ weight / 2
    expected = x_t / 2 + 1.7 * level.sigma**2 / level.alpha * gradient.view_as(x_t)
    torch.testing.assert_close(guided.x0, expected, rtol=1e-6, atol=1e-6)  # pixels are float32
    assert torch.equal(guided.variance_fraction, torch.ones_like(x_t))


def test_with_the_gradient_of_the_true_likelihood_samples_of_a_gaussian_get_the_tilted_mean():
    # p(y | x0) = exp(2 g x0) tilts a Gaussian's mean by its variance times 2 g; at a level it is 2 g E[x0 | x_t].
    gain = lambda level: 0.25 * level.alpha / (0.25 * level.alpha**2 + level.sigma**2)  # noqa: E731
    steer = ClipGuidance(Tilt(gain).eval(), 1.5)
    batch = {name: value[:1] for name, value in TOKENS.items()}  # token 3
    x, levels, noise = torch.randn(1, 3, 4, 4, dtype=torch.float64), SCHEDULE.levels(200), SampleNoise(0, [0])
    moved = Ddim()(steer(gaussian, batch), x, levels, noise) - Ddim()(gaussian, x, levels, noise)
    torch.testing.assert_close(moved, torch.full_like(moved, 1.5 * 0.25 * 2 * 3), rtol=0.02, atol=0)


def test_ddim_s_epsilon_and_the_ancestral_mean_move_as_published():
    steer = ClipGuidance(Tilt(lambda level: torch.ones_like(level.log_snr)).eval(), 0.7)
    gradient = 2.0 * torch.tensor([3.0, 5.0], dtype=torch.float64)[:, None, None, None]
    x, noise = torch.randn(2, 3, 4, 4, dtype=torch.float64), lambda: SampleNoise(0, [0, 1])
    level, to = SCHEDULE.level(0.5), SCHEDULE.level(0.45)
    plain, guided = half(x, level), steer(half, TOKENS)(x, level)
    epsilon = (x - level.alpha * plain.x0) / level.sigma
    shifted = epsilon - level.sigma * 0.7 * gradient
    torch.testing.assert_close((x - level.alpha * guided.x0) / level.sigma, shifted, rtol=1e-12, atol=1e-12)
    sampler = Ddpm(variance=FixedLarge())
    moved = sampler(steer(half, TOKENS), x, [level, to], noise()) - sampler(half, x, [level, to], noise())
    kept = level.alpha / to.alpha  # sqrt(1 - beta)
    torch.testing.assert_close(moved, (1 - kept**2) / kept * 0.7 * gradient.expand_as(x), rtol=1e-9, atol=1e-9)


def test_scale_0_is_the_denoiser_itself():
    assert ClipGuidance(clip(), 0.0)(half, {}) is half


def test_no_sample_depends_on_another_of_its_batch():
    steer, x_t, level = ClipGuidance(clip(), 2.0), torch.randn(2, 3, 16, 16), SCHEDULE.level(0.3)
    together = steer(half, TOKENS)(x_t, level).x0
    assert (together - x_t / 2).abs().max() > 0.01
    for row in range(2):
        batch = {name: value[row : row + 1] for name, value in TOKENS.items()}
        alone = steer(half, batch)(x_t[row : row + 1], level).x0
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)


def test_it_guides_where_gradients_are_off_and_leaves_none_on_the_encoder():
    encoder, level = clip(), SCHEDULE.level(0.3)
    x_t = torch.randn(2, 3, 16, 16)
    expected = ClipGuidance(encoder, 2.0)(half, TOKENS)(x_t, level).x0
    with torch.no_grad():
        assert torch.equal(ClipGuidance(encoder, 2.0)(half, TOKENS)(x_t, level).x0, expected)
    with torch.inference_mode():
        inside = {name: value.clone() for name, value in TOKENS.items()}
        guided = ClipGuidance(encoder, 2.0)(half, inside)(x_t.clone(), SCHEDULE.level(0.3)).x0
    assert torch.equal(guided, expected)
    assert all(parameter.grad is None for parameter in encoder.parameters())


class Shift(Conditioner):
    """A constant, the null 0."""

    def forward(self, batch: Any, dropped_B: Tensor) -> Condition:
        return Condition(vector=(~dropped_B)[:, None].float())


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        assert condition.vector is not None
        return self.weight * x + 0.1 * condition.vector[:, :, None, None]


def test_a_stage_is_steered_after_its_guidance_and_before_its_threshold():
    steer = ClipGuidance(clip(), 0.5)
    sampling = Sampling(Ddim(), 5, ClassifierFree(3.0), Static(), steering=steer)
    stage = Stage(Network(), SCHEDULE, X0(), PixelSpace(16), [Shift(drop=0.1)], sampling=sampling).eval()

    def by_hand(x_t: Tensor, level: Level) -> Estimate:
        return Estimate(0.5 * x_t + 0.3)

    drawn = draw(stage, TOKENS, SampleNoise(0, [0, 1]))
    noise = SampleNoise(0, [0, 1])
    x = noise.draw(torch.empty(2, 3, 16, 16))
    expected = Ddim()(Static()(steer(by_hand, TOKENS)), x, SCHEDULE.levels(5), noise)
    torch.testing.assert_close(drawn, expected.detach(), rtol=1e-5, atol=1e-5)
    plain = draw(stage, TOKENS, SampleNoise(0, [0, 1]), Sampling(Ddim(), 5, ClassifierFree(3.0), Static()))
    assert (plain - drawn).abs().max() > 0.01


def exported(folder: Path) -> tuple[Path, TrainedBpe]:
    arguments = {"image_size": 16, "width": 8, "embed_dim": 8}
    schedule = {"class_path": "mmfound.diffusion.CosineSchedule"}
    tower = {"class_path": "mmfound.models.TimedConv", "init_args": arguments}
    image = {"class_path": "mmfound.models.NoisedTower", "init_args": {"tower": tower, "schedule": schedule}}
    text = {"class_path": "mmfound.models.Cbow", "init_args": {"vocab_size": 320, "width": 8, "embed_dim": 8}}
    config = {"class_path": "mmfound.models.DualEncoder", "init_args": {"image_tower": image, "text_tower": text}}
    tokenizer = TrainedBpe(320, 16)
    tokenizer.prepare(lambda: ["a red circle", "a blue star"], folder)
    export(build(config, "test"), config, folder / "clip", tokenizer=tokenizer, image={"size": 16})
    return folder / "clip", tokenizer


def test_a_folder_reads_prompts_with_its_own_tokenizer(tmp_path: Path):
    folder, tokenizer = exported(tmp_path)
    said = {"class_path": "mmfound.diffusion.ClipGuidance", "init_args": {"encoder": str(folder), "scale": 2.0}}
    sampling = build({"class_path": "mmfound.diffusion.Sampling", "init_args": {"steering": said}}, "module.yaml")
    x_t, level, prompts = torch.randn(2, 3, 16, 16), SCHEDULE.level(0.3), ["a red circle", "a blue star"]
    read = tokenizer(prompts)
    keys = {"tokens_clip": read["tokens"], "token_mask_clip": read["token_mask"]}
    by_prompt = sampling.steering(half, {"prompt": prompts})(x_t, level).x0
    assert torch.equal(by_prompt, sampling.steering(half, keys)(x_t, level).x0)
    swapped = sampling.steering(half, {"prompt": prompts[::-1]})(x_t, level).x0
    assert (by_prompt - swapped).abs().max() > 1e-4


def test_texts_that_are_missing_are_named():
    with pytest.raises(ConfigError, match=r"reads 'tokens_clip'.*the batch has only \['prompt', 'tokens'\]"):
        ClipGuidance(clip(), 1.0)(half, {"tokens": torch.zeros(1, 2), "prompt": ["a"]})
    renamed = ClipGuidance(clip(), 1.0, tokens="tokens", token_mask="token_mask")
    batch = {"tokens": TOKENS["tokens_clip"], "token_mask": TOKENS["token_mask_clip"]}
    x_t, level = torch.randn(2, 3, 16, 16), SCHEDULE.level(0.3)
    assert renamed(half, batch)(x_t, level).x0.shape == x_t.shape


def test_an_encoder_in_training_mode_and_a_folder_without_one_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="training mode"):
        ClipGuidance(clip().train(), 1.0)
    with pytest.raises(ConfigError, match="no exported module in"):
        ClipGuidance(str(tmp_path), 1.0)(half, {"prompt": ["a"]})


def test_a_table_of_1000_steps_guides_at_its_own_times():
    table, seen = DiscreteSchedule(CosineBetas()), []
    encoder = DualEncoder(NoisedTower(Linear(48, 8), table), Cbow(20, 8, 8)).eval().requires_grad_(False)
    encoder.image_tower.tower.register_forward_pre_hook(lambda _, inputs: seen.append(float(inputs[1][0])))
    levels = table.levels(10)
    denoise: Denoiser = ClipGuidance(encoder, 1.0)(half, TOKENS)
    for level in levels[:-1]:
        denoise(add_noise(torch.zeros(2, 3, 4, 4), torch.randn(2, 3, 4, 4), level), level)
    assert seen == [float(level.time) for level in levels[:-1]]
