"""Decoding: whole pictures of every kind come out right, everything else is a BadSample."""

import contextlib
import io

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from mmfound.data.decode import decode
from mmfound.data.errors import BadSample


def gradient(height: int = 24, width: int = 32) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, np.full_like(rows, 90)], axis=2).astype(np.uint8)


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0), ("BMP", 0), ("TIFF", 0), ("JPEG", 12), ("WEBP", 12)])
def test_every_format_gives_the_picture(kind: str, tolerance: int):
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    image = decode(encoded(Image.fromarray(gradient()), kind, **options))
    assert image.dtype == torch.uint8
    assert image.shape == (3, 24, 32)
    difference = image.permute(1, 2, 0).numpy().astype(int) - gradient()
    assert abs(difference).max() <= tolerance


def test_gif_gives_the_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data)[:, 0, 0].tolist() == [255, 0, 0]


def test_pixels_pass_through():
    assert torch.equal(decode(gradient()), torch.from_numpy(gradient()).permute(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "1"])
def test_other_colour_modes_become_rgb(mode: str):
    picture = Image.fromarray(gradient()).convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    image = decode(encoded(picture, kind))
    expected = np.array(picture.convert("RGB")).astype(int)
    assert image.shape == (3, 24, 32)
    assert abs(image.permute(1, 2, 0).numpy().astype(int) - expected).mean() < 6


@pytest.mark.parametrize(("alpha", "expected"), [("white", [255, 255, 255]), ("drop", [10, 20, 30])])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_laid_on_white_or_dropped(alpha: str, expected: list[int], kind: str):
    data = encoded(Image.new("RGBA", (4, 4), (10, 20, 30, 0)), kind, lossless=True, exact=True)
    assert decode(data, alpha=alpha)[:, 0, 0].tolist() == expected


def test_transparent_palette_is_laid_on_white():
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([10, 20, 30, 0, 0, 0])
    assert decode(encoded(picture, "PNG", transparency=0))[:, 0, 0].tolist() == [255, 255, 255]


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.linspace(0, 65535, 16, dtype=np.uint16).reshape(4, 4)
    image = decode(encoded(Image.fromarray(values), "PNG"))
    assert image[0].flatten().tolist() == pytest.approx((values.flatten() / 257).tolist(), abs=0.51)


def test_exif_orientation_is_applied_only_when_asked():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(gradient()), "JPEG", exif=exif)
    assert decode(data).shape == (3, 24, 32)
    assert decode(data, exif=True).shape == (3, 32, 24)


def test_one_pixel_is_a_picture():
    assert decode(encoded(Image.new("RGB", (1, 1), "red"), "PNG"))[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_cut_files_are_bad(kind: str):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(BadSample, match="truncated or damaged|not an image"):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("data", "kind"), [(b"", "empty"), (b"<html>404</html>", "not an image"), (b"\xff\xd8\xff", "not an image")]
)
def test_what_is_no_picture_is_bad(data: bytes, kind: str):
    with pytest.raises(BadSample) as caught:
        decode(data)
    assert caught.value.kind == kind


def test_bombs_are_refused_by_their_header():
    data = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(data) < 100_000
    with pytest.raises(BadSample) as caught:
        decode(data)
    assert caught.value.kind == "too large"


def test_the_limit_is_the_number_of_pixels():
    data = encoded(Image.new("RGB", (10, 10)), "PNG")
    assert decode(data, max_pixels=100).shape == (3, 10, 10)
    with pytest.raises(BadSample, match="max_pixels 99"):
        decode(data, max_pixels=99)


def test_control_characters_of_foreign_names_are_escaped():
    assert "\x1b" not in str(BadSample("empty", "0 bytes", "a\x1b[31m.jpg"))


def test_arrays_that_cannot_be_written_to_are_pixels_too():
    pixels = gradient()
    pixels.flags.writeable = False
    assert torch.equal(decode(pixels), decode(gradient()))


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_are_bad(pixels: np.ndarray):
    with pytest.raises(BadSample, match="not an image"):
        decode(pixels)


def test_an_animated_webp_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert decode(data)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_damaged_png_does_not_end_the_process(mode: str):
    whole = np.frombuffer(encoded(Image.fromarray(gradient()).convert(mode), "PNG"), np.uint8)
    for seed in range(200):  # torchvision 0.29.2 dies of one in five
        draw, data = np.random.default_rng(seed), whole.copy()
        data[draw.integers(0, len(data), 6)] = draw.integers(0, 256, 6)
        with contextlib.suppress(BadSample):
            decode(data.tobytes(), max_pixels=1_000_000)


def test_only_the_first_frame_of_a_gif_is_decoded(monkeypatch: pytest.MonkeyPatch):
    frames = [Image.fromarray(np.roll(gradient(), n, 1)) for n in range(5)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    seeks: list[int] = []
    seek = GifImageFile.seek
    monkeypatch.setattr(GifImageFile, "seek", lambda self, frame: (seeks.append(frame), seek(self, frame))[1])
    decode(data)
    assert max(seeks, default=0) == 0


def test_pictures_of_several_views_give_the_first():
    views = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    image = decode(encoded(views[0], "MPO", save_all=True, append_images=views[1:]))
    assert image[0].float().mean() > 200 > 50 > image[2].float().mean()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_dark_sixteen_bit_pictures_stay_dark(kind: str):
    assert int(decode(encoded(Image.fromarray(np.full((4, 4), 200, np.uint16)), kind)).max()) == 1


def test_sixteen_bit_grey_with_a_transparent_shade_is_scaled():
    values = np.linspace(0, 65535, 16, dtype=np.uint16).reshape(4, 4)
    image = decode(encoded(Image.fromarray(values), "PNG", transparency=5))
    assert image[0].flatten().tolist() == list(range(0, 256, 17))


def test_pixels_without_a_range_are_bad():
    with pytest.raises(BadSample, match="unknown range"):
        decode(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied_in_every_format_that_has_it(kind: str):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(Image.fromarray(gradient()), kind, exif=exif), exif=True).shape == (3, 32, 24)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_damaged_files_are_bad_or_pictures_but_never_another_error(kind: str):
    draw = np.random.default_rng(0)
    whole = np.frombuffer(encoded(Image.fromarray(gradient()), kind), np.uint8)
    for _ in range(60):
        data = whole.copy()
        places = draw.integers(0, min(len(data), 200), 6)
        data[places] = draw.integers(0, 256, 6)
        try:
            image = decode(data.tobytes(), max_pixels=1_000_000, exif=True)
        except BadSample:
            continue
        assert image.dtype == torch.uint8
        assert image.shape[0] == 3
