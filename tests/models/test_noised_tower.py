"""NoisedTower, the towers that are told levels, and DualEncoder over them."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.abilities import EmbedsNoised
from mmfound.diffusion import CLEAN, CosineBetas, CosineSchedule, DiscreteSchedule, EdmSchedule, Level, Schedule
from mmfound.errors import ConfigError
from mmfound.models import Cbow, ConvTower, DualEncoder, NoisedTower, TimedConv, TimedViT
from mmfound.models.noised_tower import levels_of
from mmfound.nn.time_table import TimeTable
from mmfound.seeding import seed_generators

GLIDE = DiscreteSchedule(CosineBetas())


class Told(nn.Module):
    """Gives back what it is given: the pictures, and the numbers of their levels behind them."""

    image_size, width = 8, 0

    def forward(self, image: Tensor, number: Tensor) -> Tensor:
        return torch.cat([image.flatten(1), number[:, None]], dim=1)


def tiny_vit() -> TimedViT:
    return TimedViT(32, 8, 64, 2, 2, 16)


def tiny_conv() -> TimedConv:
    tower = TimedConv(32, 8, 16)
    for layer in tower.layers:
        nn.init.normal_(layer.time.weight)
    return tower


def test_in_training_pictures_get_the_noise_of_the_level_that_the_tower_is_told():
    tower = NoisedTower(Told(), GLIDE)
    image = torch.full((400, 3, 32, 32), 0.75)  # x0 of 0.5
    seen_BD = tower(image)
    number_B, x_BD = seen_BD[:, -1], seen_BD[:, :-1] * 2 - 1
    level = GLIDE.level(number_B.double())
    torch.testing.assert_close(x_BD.mean(dim=1).double(), 0.5 * level.alpha, rtol=0, atol=4.5 / math.sqrt(3 * 32 * 32))
    torch.testing.assert_close(x_BD.std(dim=1).double(), level.sigma, rtol=0.06, atol=0.001)
    assert number_B.mean().item() == pytest.approx(499.5, abs=4 * 1000 / math.sqrt(12 * 400))
    assert number_B.min() >= 0
    assert number_B.max() <= 999


def test_noise_is_a_function_of_the_seed_that_steps_get():
    tower, image = NoisedTower(Told(), GLIDE), torch.rand(4, 3, 8, 8)

    def seen(seed: int) -> Tensor:
        seed_generators(seed, torch.device("cpu"))
        return tower(image)

    first, other = seen(3), seen(4)
    assert torch.equal(seen(3), first)
    assert (first[:, -1] != other[:, -1]).any()


def test_in_eval_mode_pictures_are_taken_as_they_are_at_the_least_noisy_level():
    tower, image = NoisedTower(Told(), GLIDE).eval(), torch.rand(4, 3, 8, 8)
    assert torch.equal(tower(image), torch.cat([image.flatten(1), torch.zeros(4, 1)], dim=1))


def test_samples_are_told_the_time_of_a_table_of_1000_steps():
    tower, x_t = NoisedTower(Told(), GLIDE), torch.randn(1000, 3, 8, 8)
    seen = tower.forward_noised(x_t, GLIDE.level(torch.arange(1000)))
    assert seen[:, -1].tolist() == list(range(1000))
    torch.testing.assert_close(seen[:, :-1] * 2 - 1, x_t.flatten(1))
    assert tower.forward_noised(x_t[:3], GLIDE.level(7.0))[:, -1].tolist() == [7.0] * 3


@pytest.mark.parametrize("schedule", [CosineSchedule(), EdmSchedule(), GLIDE], ids=["cosine", "edm", "table"])
def test_samples_of_another_schedule_are_told_the_level_of_nearest_log_snr(schedule: Schedule):
    tower = NoisedTower(Told(), schedule)
    own = levels_of(schedule, torch.arange(1000)).log_snr
    asked = torch.cat([torch.linspace(-20, 20, 57, dtype=torch.float64), torch.tensor([math.inf, -math.inf]).double()])
    number = tower.forward_noised(torch.zeros(59, 3, 8, 8), Level(asked, asked))[:, -1].long()
    nearest = (asked.clamp(float(own.min()), float(own.max()))[:, None] - own).abs().min(dim=1).values
    torch.testing.assert_close((asked.clamp(float(own.min()), float(own.max())) - own[number]).abs(), nearest)
    assert tower.forward_noised(torch.zeros(1, 3, 8, 8), CLEAN)[0, -1] == 0


@pytest.mark.parametrize("make", [tiny_vit, tiny_conv])
def test_the_embedding_depends_on_the_level_and_on_no_other_picture(make):
    tower = NoisedTower(make(), CosineSchedule()).eval()
    x_t, levels = torch.randn(3, 3, 32, 32), CosineSchedule().level(torch.tensor([0.1, 0.5, 0.9]))
    together = tower.forward_noised(x_t, levels)
    for row, time in enumerate([0.1, 0.5, 0.9]):
        alone = tower.forward_noised(x_t[row : row + 1], CosineSchedule().level(time))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(tower.forward_noised(x_t, CosineSchedule().level(0.9)), together, atol=1e-3)
    torch.testing.assert_close(tower.tower.head(tower.features(x_t / 4 + 0.5)), tower(x_t / 4 + 0.5))


@pytest.mark.parametrize("make", [tiny_vit, tiny_conv])
def test_bfloat16_weights_take_float32_pictures(make):
    tower, image = NoisedTower(make(), CosineSchedule()).eval(), torch.rand(2, 3, 32, 32)
    expected = tower(image)
    embedded = tower.bfloat16()(image)
    assert embedded.dtype == torch.bfloat16
    assert F.cosine_similarity(embedded.float(), expected).min() > 0.98


@pytest.mark.parametrize("make", [tiny_vit, tiny_conv])
def test_pictures_of_another_size_are_refused(make):
    with pytest.raises(ConfigError, match="pictures of 32 pixels a side, and was given 16x32"):
        make()(torch.rand(1, 3, 16, 32), torch.zeros(1))


def test_a_tower_that_is_not_told_levels_is_refused():
    with pytest.raises(ConfigError, match="ConvTower is not told how noisy"):
        NoisedTower(ConvTower(8, 8), GLIDE)


def test_rows_of_a_table_are_interpolated():
    table = TimeTable(4, 2, std=1).double()
    rows, time = table.weight, torch.tensor([-5.0, 0, 333, 499.5, 999, 2000], dtype=torch.float64)
    expected = torch.stack([rows[0], rows[0], rows[1], (rows[1] + rows[2]) / 2, rows[3], rows[3]])
    torch.testing.assert_close(table(time), expected)
    full = TimeTable(1000, 2, std=1)
    assert torch.equal(full(torch.arange(1000).float()), full.weight)


def test_dual_encoders_embed_noised_samples_with_unit_length():
    encoder = DualEncoder(NoisedTower(tiny_vit(), CosineSchedule()), Cbow(20, 8, 16)).eval()
    assert isinstance(encoder, EmbedsNoised)
    x_t, level = torch.randn(2, 3, 32, 32), CosineSchedule().level(0.4)
    embedded = encoder.embed_noised(x_t, level)
    torch.testing.assert_close(embedded, F.normalize(encoder.image_tower.forward_noised(x_t, level), dim=1))
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(2))


def test_a_tower_that_has_not_learned_noise_takes_noised_samples_for_pictures():
    encoder, x_t = DualEncoder(ConvTower(8, 16), Cbow(20, 8, 16)).eval(), torch.randn(2, 3, 32, 32)
    embedded = encoder.embed_noised(x_t, CosineSchedule().level(0.4))
    assert torch.equal(embedded, encoder.embed_image((x_t + 1) / 2))
