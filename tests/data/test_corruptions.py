"""Corruptions against closed forms, Pillow and scipy."""

import colorsys
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from mmfound.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from mmfound.data.corruptions.blur import _disc
from mmfound.data.corruptions.filters import gaussian, places, sampled, streak, zoomed
from mmfound.data.corruptions.weather import fractal

GREY = torch.full((3, 224, 224), 128, dtype=torch.uint8)
SMOOTH = ("fog", "frost", "snow", "elastic_transform")  # not ordered by how far they are from the picture


def photo(height: int = 96, width: int = 96, seed: int = 0) -> Tensor:
    """Smooth blobs with edges: a picture's spectrum without a picture."""
    draw = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(draw.normal(size=(3, height, width)), (0, 5, 5))
    blobs = (blobs - blobs.min()) / (blobs.max() - blobs.min())
    blobs[:, height // 4 : height // 2, width // 3 :] *= 0.4
    return torch.from_numpy((blobs * 255).astype(np.uint8))


def psnr(a: Tensor, b: Tensor) -> float:
    return 10 * math.log10(255**2 / float(((a.float() - b.float()) ** 2).mean()))


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten().float(), b.flatten().float()]))[0, 1])


@pytest.mark.parametrize("kind", list(CORRUPTIONS))
@pytest.mark.parametrize("size", [(28, 28), (40, 33), (224, 224)])
def test_every_corruption_keeps_shape_and_type_and_depends_on_the_seed_alone(kind: str, size: tuple[int, int]):
    image = photo(*size)
    kept = image.clone()
    first = corrupt(image, kind, 3, 7, "key")
    np.random.default_rng().random()
    torch.rand(3)
    assert first.shape == image.shape
    assert first.dtype == torch.uint8
    assert torch.equal(image, kept)
    assert torch.equal(first, corrupt(image, kind, 3, 7, "key"))
    assert not torch.equal(first, image)
    random = kind not in ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
    assert torch.equal(first, corrupt(image, kind, 3, 7, "other")) != random
    assert torch.equal(first, corrupt(image, kind, 3, 8, "key")) != random


@pytest.mark.parametrize("kind", [kind for kind in CORRUPTIONS if kind not in (*SMOOTH, "glass_blur")])
def test_each_severity_is_further_from_the_picture_than_the_one_before(kind: str):
    image = photo(224, 224)
    distances = [psnr(image, corrupt(image, kind, severity, 0)) for severity in SEVERITIES]
    if kind in ("pixelate", "zoom_blur"):  # 0.6 does not divide 224, 0.5 does
        assert distances[0] > distances[-1] + 1
    else:
        assert distances == sorted(distances, reverse=True)
        assert distances[0] > distances[-1] + 3


@pytest.mark.parametrize("kind", ["snow", "frost", "fog", "glass_blur"])
def test_less_of_the_picture_is_left_at_the_strongest_than_at_the_weakest(kind: str):
    pictures = [photo(224, 224, seed) for seed in range(3)]
    left = [
        np.mean([correlation(image, corrupt(image, kind, severity, n)) for n, image in enumerate(pictures)])
        for severity in (1, 3, 5)
    ]
    assert 0.999 > left[0] > left[1] + 1e-3 > left[2] + 2e-3


@pytest.mark.parametrize(("severity", "deviation"), [(1, 0.08), (2, 0.12)])
def test_gaussian_noise_has_its_deviation(severity: int, deviation: float):
    noise = corrupt(GREY, "gaussian_noise", severity, 0).float() / 255 - 128 / 255
    assert float(noise.std()) == pytest.approx(deviation, rel=0.01)
    assert float(noise.mean()) == pytest.approx(0, abs=0.002)
    assert float(noise[:, :, :-1].mul(noise[:, :, 1:]).mean()) == pytest.approx(0, abs=0.001 * deviation / 0.08)


@pytest.mark.parametrize(("severity", "photons"), [(1, 60), (2, 25)])
@pytest.mark.parametrize("level", [51, 102])
def test_shot_noise_has_poissons_mean_and_variance(severity: int, photons: int, level: int):
    noisy = corrupt(torch.full_like(GREY, level), "shot_noise", severity, 0).float() / 255
    assert float(noisy.mean()) == pytest.approx(level / 255, rel=0.01)
    assert float(noisy.var()) == pytest.approx(level / 255 / photons, rel=0.03)


@pytest.mark.parametrize(("severity", "share"), list(zip(SEVERITIES, (0.03, 0.06, 0.09, 0.17, 0.27), strict=True)))
def test_impulse_noise_is_salt_and_pepper_in_equal_parts(severity: int, share: float):
    noisy = corrupt(GREY, "impulse_noise", severity, 0)
    assert set(noisy.unique().tolist()) == {0, 128, 255}
    assert float((noisy == 0).float().mean()) == pytest.approx(share / 2, rel=0.05)
    assert float((noisy == 255).float().mean()) == pytest.approx(share / 2, rel=0.05)


@pytest.mark.parametrize(("severity", "added"), list(zip(SEVERITIES, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True)))
def test_brightness_is_that_of_the_standard_librarys_hsv(severity: int, added: float):
    image = photo(12, 12)
    image[:, 0, 0] = 0
    found = corrupt(image, "brightness", severity, 0)
    for pixel, brighter in zip(image.flatten(1).T.tolist(), found.flatten(1).T.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in pixel))
        expected = colorsys.hsv_to_rgb(hue, saturation, min(1, value + added))
        assert brighter == pytest.approx([255 * channel for channel in expected], abs=0.51)


@pytest.mark.parametrize(("severity", "factor"), list(zip(SEVERITIES, (0.4, 0.3, 0.2, 0.1, 0.05), strict=True)))
def test_contrast_keeps_the_means_of_the_channels_and_scales_the_deviations(severity: int, factor: float):
    image = photo()
    found = corrupt(image, "contrast", severity, 0).double()
    torch.testing.assert_close(found.mean(dim=(1, 2)), image.double().mean(dim=(1, 2)), atol=0.1, rtol=0)
    torch.testing.assert_close(found.std(dim=(1, 2)), factor * image.double().std(dim=(1, 2)), atol=0.1, rtol=0.01)


@pytest.mark.parametrize(("severity", "quality"), list(zip(SEVERITIES, (25, 18, 15, 10, 7), strict=True)))
def test_jpeg_is_pillows(severity: int, quality: int):
    image, file = photo(), io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    assert torch.equal(corrupt(image, "jpeg_compression", severity, 0), expected)


def test_pixelate_by_a_whole_factor_repeats_the_means_of_blocks():
    image = photo()
    means = torch.nn.functional.avg_pool2d(image.float(), 4).repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert (
        float((corrupt(image, "pixelate", 5, 0).float() - means).abs().max()) <= 1
    )  # Pillow rounds rows, then columns


@pytest.mark.parametrize("mode", ["nearest", "reflect"])
@pytest.mark.parametrize("sigma", [0.7, 3.0, 40.0])
def test_gaussian_blur_is_scipys_at_any_width(sigma: float, mode: str):
    image = photo(40, 33).float()
    expected = ndimage.gaussian_filter(image.numpy(), (0, sigma, sigma), mode=mode, truncate=3)
    found = gaussian(image, sigma, truncate=3, mirror=mode == "reflect")
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=2e-3, rtol=0)


@pytest.mark.parametrize("mode", ["reflect", "mirror"])
def test_sampling_is_scipys_inside_and_beyond_the_borders(mode: str):
    image, (y, x) = photo(20, 31).float(), places(torch.zeros(1, 20, 31))
    y, x = y * 1.4 - 5.3, x * 1.2 - 3.1
    expected = np.stack([ndimage.map_coordinates(part, [y, x], order=1, mode=mode) for part in image.numpy()])
    found = sampled(image, y, x, mirror_about_pixels=mode == "mirror")
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=5e-3, rtol=0)


@pytest.mark.parametrize("factor", [1.0, 1.06, 1.3, 3.0])
def test_zoom_is_scipys(factor: float):
    image = photo(224, 224).float()
    side = math.ceil(224 / factor)
    top = (224 - side) // 2
    large = ndimage.zoom(image.numpy()[:, top : top + side, top : top + side], (1, factor, factor), order=1)
    trim = (large.shape[1] - 224) // 2
    expected = large[:, trim : trim + 224, trim : trim + 224]
    torch.testing.assert_close(zoomed(image, factor), torch.from_numpy(expected), atol=5e-3, rtol=0)


def test_a_streak_of_a_point_is_one_half_of_a_gaussian():
    point = torch.zeros(1, 64, 64)
    point[0, 32, 40] = 1
    found = streak(point, 10, 3, 0)[0]
    expected = np.exp(-0.5 * (np.arange(21) / 3) ** 2)
    assert found[32, 20:41].flip(0).tolist() == pytest.approx((expected / expected.sum()).tolist(), abs=1e-6)
    assert float(found.sum()) == pytest.approx(1, abs=1e-6)
    turned = streak(point, 10, 3, 90)[0]
    torch.testing.assert_close(turned[12:33, 40].flip(0), found[32, 20:41].flip(0), atol=1e-6, rtol=0)


def test_a_streak_keeps_a_flat_picture_and_its_length_at_any_angle():
    torch.testing.assert_close(streak(torch.full((3, 30, 30), 0.3), 10, 3, 33.0), torch.full((3, 30, 30), 0.3))
    point = torch.zeros(1, 80, 80)
    point[0, 40, 40] = 1
    y, x = places(point)
    lengths = [
        float((streak(point, 10, 6, angle)[0] * ((y - 40) ** 2 + (x - 40) ** 2).sqrt()).sum()) for angle in (0, 37)
    ]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.02)


@pytest.mark.parametrize("radius", [1.25, 3.0, 10.0])
def test_the_disc_has_its_area_and_symmetry(radius: float):
    disc = _disc(radius, 0)
    assert float(disc.sum()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(disc, disc.T)
    torch.testing.assert_close(disc, disc.flip(0))
    offset = torch.arange(len(disc)) - len(disc) // 2
    second_moment = float((disc * (offset[:, None] ** 2)).sum())
    assert second_moment == pytest.approx(
        radius**2 / 4 + 1 / 12, abs=0.1
    )  # of a disc, and of the pixels it is cut into
    assert float(disc.max()) == pytest.approx(1 / (math.pi * radius**2), rel=0.05)


def test_a_disc_within_one_pixel_blurs_nothing():
    assert float(_disc(0.375, 0).max()) == pytest.approx(1)


def test_fog_presses_the_range_together_by_its_density():
    white = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    black = torch.zeros(3, 64, 64, dtype=torch.uint8)
    black[:, 0, 0] = 255  # or the brightest value, which sets the range, would be 0
    lightest, darkest = corrupt(white, "fog", 1, 0).float() / 255, corrupt(black, "fog", 1, 0).float() / 255
    assert float(lightest.min()) >= 1 / 2.5 - 0.01  # (1 + 1.5 * 0) / (1 + 1.5)
    assert float((lightest - darkest)[:, 5:, 5:].mean()) == pytest.approx(1 / 2.5, abs=0.01)


def test_the_fractal_is_rougher_the_slower_it_decays():
    draws = [fractal(200, 224, decay, np.random.default_rng(0))[0] for decay in (2.0, 1.4)]
    for plasma in draws:
        assert plasma.shape == (200, 224)
        assert 0 <= float(plasma.min()) < 0.3
        assert 0.7 < float(plasma.max()) <= 1
    rough = [float((plasma[:, 1:] - plasma[:, :-1]).abs().mean()) for plasma in draws]
    assert rough[1] > 1.5 * rough[0]


def test_a_small_fractal_is_a_large_one_made_small():
    large, small = (fractal(side, side, 2.0, np.random.default_rng(3)) for side in (224, 56))
    assert correlation(torch.nn.functional.avg_pool2d(large, 4), small) > 0.98


def test_elastic_displaces_no_further_than_its_shift_and_field_allow():
    y, x = places(torch.zeros(1, 224, 224))
    ramp = torch.stack([x, x, y]) / 224
    found = CORRUPTIONS["elastic_transform"](ramp, 3, np.random.default_rng(0))
    moved = ((found - ramp) * 224).abs()[:, 60:-60, 60:-60]
    assert 0.5 < float(moved.max()) < 20  # three points move by 4.9 px each, and the field by 12.2 px at most


@pytest.mark.parametrize("kind", ["defocus_blur", "motion_blur", "zoom_blur", "brightness", "contrast"])
def test_a_corrupted_small_picture_resembles_a_large_one_made_small(kind: str):
    large = photo(224, 224)
    small = torch.nn.functional.avg_pool2d(large.float(), 4).round().to(torch.uint8)
    expected = torch.nn.functional.avg_pool2d(corrupt(large, kind, 3, 5, "k").float(), 4)
    found = corrupt(small, kind, 3, 5, "k").float()
    assert float((found - expected).abs().mean()) < 0.35 * max(4.0, float((expected - small.float()).abs().mean()))
