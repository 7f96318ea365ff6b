import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.functional import gaussian_blur

from mmfound.diffusion.conditioning import (
    FreeForm,
    GaussianBlur,
    Inpainting,
    LowResolution,
    NoiseAugmentation,
    Rectangles,
    join,
)
from mmfound.diffusion.conditioning.draws import SEEDS
from mmfound.diffusion.schedules import Schedule
from mmfound.errors import ConfigError

NONE = torch.zeros(3, dtype=torch.bool)


class Linear(Schedule):
    """log-SNR falls from 10 to -10."""

    def log_snr(self, time):
        return 10 - 20 * time.double()

    @property
    def ends(self):
        return 0.0, 1.0

    def draw(self, u):
        return u.double()

    def times(self, steps):
        return torch.linspace(1, 0, steps + 1).double()[:-1]

    def network_time(self, time):
        return (time * 1000).float()


def pictures(size: int, count: int = 3) -> torch.Tensor:
    return F.interpolate(torch.rand(count, 3, 4, 4), (size, size), mode="bilinear")


def test_the_low_resolution_of_training_is_the_saved_picture_of_sampling():
    conditioner, image = LowResolution(8, 16), pictures(16)
    trained = conditioner({"image": image}, NONE).concat
    small = F.interpolate(image, (8, 8), mode="bicubic", antialias=True).clamp(0, 1)
    saved = (small * 255).round().to(torch.uint8).float() / 255
    sampled = conditioner({"low_resolution": saved}, NONE).concat
    torch.testing.assert_close(trained, sampled, rtol=0, atol=1e-6)
    unsaved = F.interpolate(small, (16, 16), mode="bicubic").clamp(0, 1) * 2 - 1
    assert (trained - unsaved).abs().max() > 1e-4  # 8 bits


def test_the_released_weights_get_bilinear_pixels():
    small = (torch.rand(3, 3, 8, 8) * 255).round() / 255
    made = LowResolution(8, 16, interpolation="bilinear")({"low_resolution": small}, NONE).concat
    expected = F.interpolate(((small * 2 - 1) + 1) * 127.5, (16, 16), mode="bilinear", align_corners=False) / 127.5 - 1
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def test_pictures_of_any_smaller_size_are_upsampled_and_larger_ones_refused():
    conditioner = LowResolution(8, 16)
    for size in (5, 16):
        assert conditioner({"low_resolution": pictures(size)}, NONE).concat.shape == (3, 3, 16, 16)
    with pytest.raises(ConfigError, match="20 x 20 pixels, more than the 16 x 16"):
        conditioner({"low_resolution": pictures(20)}, NONE)
    with pytest.raises(ConfigError, match="reads low_resolution or image, but the batch has only"):
        conditioner({"tokens": NONE}, NONE)


def test_blur_is_torchvisions_and_of_training_alone():
    image = pictures(9)
    expected = gaussian_blur(image, [3, 3], [0.6, 0.6])
    torch.testing.assert_close(GaussianBlur(1.0).blurred(image), expected, rtol=0, atol=1e-6)
    chosen = GaussianBlur(0.3)(pictures(9, 1).expand(4000, -1, -1, -1))
    blurred = float((chosen != chosen.median(dim=0).values).flatten(1).any(dim=1).float().mean())
    assert abs(blurred - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 4000)
    conditioner = LowResolution(8, 16, blur=GaussianBlur(1.0))
    sharp, batch = LowResolution(8, 16), {"image": torch.rand(3, 3, 16, 16)}
    assert not torch.equal(conditioner(batch, NONE).concat, sharp(batch, NONE).concat)
    assert torch.equal(conditioner.eval()(batch, NONE).concat, sharp(batch, NONE).concat)


def test_noise_is_of_the_level_that_the_network_is_told():
    conditioner = LowResolution(8, 64, augmentation=NoiseAugmentation(Linear(), embed_dim=8)).eval()
    image = torch.full((3, 3, 64, 64), 0.5)
    for level in (0.25, 0.75):
        made = conditioner({"image": image, "augmentation_level": level}, NONE)
        sigma = float(torch.sigmoid(torch.tensor(-(10 - 20 * level))).sqrt())
        assert abs(float(made.concat.std()) - sigma) < 0.02
    told = [conditioner({"image": image, "augmentation_level": level}, NONE).vector for level in (0.2, 0.2, 0.3)]
    assert torch.equal(told[0], told[1])
    assert not torch.equal(told[0], told[2])
    assert torch.equal(conditioner({"image": image}, NONE).vector, told[0])  # the level where the batch says none
    rows = conditioner.train()({"image": image}, NONE).vector
    assert not torch.equal(rows[0], rows[1])  # each its own in training


def test_draws_with_seeds_are_those_of_the_sample_whatever_the_batch():
    noisy = LowResolution(8, 16, augmentation=NoiseAugmentation(Linear(), embed_dim=8)).eval()
    for conditioner in (noisy, Inpainting(16)):
        image = pictures(16)
        whole = conditioner({"image": image, SEEDS: [5, 6, 7]}, NONE).concat
        last = conditioner({"image": image[2:], SEEDS: [7]}, NONE[:1]).concat
        torch.testing.assert_close(whole[2:], last, rtol=0, atol=1e-6)
        assert not torch.allclose(whole, conditioner({"image": image, SEEDS: [8, 9, 10]}, NONE).concat)


def test_the_mask_is_one_where_the_picture_is_known():
    image, mask = pictures(8), torch.zeros(3, 1, 8, 8)
    mask[:, :, :, :4] = 1
    concat = Inpainting(8)({"known_image": image, "image": pictures(8), "mask": mask}, NONE).concat
    assert torch.equal(concat[:, 3:], mask)
    torch.testing.assert_close(concat[:, :3, :, :4], image[..., :4] * 2 - 1)
    assert torch.equal(concat[:, :3, :, 4:], torch.zeros(3, 3, 8, 4))


def test_an_inpainting_upsampler_sees_the_whole_low_resolution_behind_the_known_part():
    image, mask = pictures(16), torch.zeros(3, 1, 16, 16)
    batch = {"image": image, "mask": mask}
    parts = [Inpainting(16), LowResolution(8, 16)]
    concat = join([part(batch, NONE) for part in parts]).concat
    assert concat.shape[1] == 7
    assert torch.equal(concat[:, :4], torch.zeros(3, 4, 16, 16))
    assert torch.equal(concat[:, 4:], parts[1](batch, NONE).concat)


def test_without_a_picture_nothing_is_known():
    assert torch.equal(Inpainting(8)({"tokens": NONE}, NONE).concat, torch.zeros(3, 4, 8, 8))
    with pytest.raises(ConfigError, match="a mask but neither"):
        Inpainting(8)({"mask": torch.zeros(3, 1, 8, 8)}, NONE)
    with pytest.raises(ConfigError, match=r"mask has shape \[3, 8, 8\]"):
        Inpainting(8)({"image": pictures(8), "mask": torch.zeros(3, 8, 8)}, NONE)
    with pytest.raises(ConfigError, match="size: 8, but the picture has 9 x 9"):
        Inpainting(8)({"image": pictures(9)}, NONE)


@pytest.mark.parametrize("masks", [Rectangles(nothing_known=0.2), FreeForm(nothing_known=0.2)])
def test_masks_hide_some_and_now_and_then_all(masks):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([masks(16, generator) for _ in range(600)])
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    shares = drawn.flatten(1).mean(dim=1)
    empty = float((shares == 0).float().mean())
    assert abs(empty - 0.2) < 5 * math.sqrt(0.2 * 0.8 / 600)
    assert float(shares.max()) < 1
    hidden = 1 - drawn.mean(dim=0)
    assert float(hidden.min()) > 0.22  # no place is always known
