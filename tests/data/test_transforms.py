"""Crops keep size and type, stay inside the picture, and agree with torchvision."""

import pytest
import torch
import torchvision.transforms.v2 as v2
from torchvision.transforms.v2 import InterpolationMode

from mmfound.data import CenterCrop, RandomCrop, RandomResizedCrop, Resize


def picture(height: int, width: int) -> torch.Tensor:
    """Smooth colours in channels-last memory, as decoders give them; red is the row and green the column."""
    rows = torch.linspace(0, 255, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 255, width).expand(height, width)
    return torch.stack([rows, columns, (rows + columns) / 2], dim=2).to(torch.uint8).permute(2, 0, 1)


@pytest.mark.parametrize("transform", [Resize(32), CenterCrop(32), RandomCrop(32), RandomResizedCrop(32)], ids=repr)
@pytest.mark.parametrize("size", [(32, 32), (300, 40), (40, 300), (1, 1), (1, 50), (33, 31)])
def test_any_picture_becomes_a_uint8_square(transform, size):
    out = transform(picture(*size))
    assert out.shape == (3, 32, 32)
    assert out.dtype == torch.uint8


@pytest.mark.parametrize("size", [(120, 90), (77, 200), (64, 64), (50, 40)])
def test_center_crop_equals_resize_and_crop_of_torchvision(size):
    reference = v2.Compose([v2.Resize(56, interpolation=InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(56)])
    torch.testing.assert_close(CenterCrop(56)(picture(*size)), reference(picture(*size)), atol=1, rtol=0)


def test_random_crop_reaches_both_ends_of_the_long_edge_and_keeps_the_short_one():
    image = picture(64, 256)
    columns = torch.stack([RandomCrop(64)(image)[1, 0, [0, -1]] for _ in range(300)]).int()
    assert columns[:, 0].min() <= 6
    assert columns[:, 1].max() >= 249
    assert (RandomCrop(64)(image)[0, -1] == 255).all()


def test_random_resized_crop_covers_the_asked_share_of_the_area():
    image = picture(200, 200)
    for _ in range(100):
        rows, columns = RandomResizedCrop(64, scale=(0.5, 0.6), ratio=(0.8, 1.25))(image)[:2].int()
        share = (rows.max() - rows.min()).item() / 255 * (columns.max() - columns.min()).item() / 255
        assert 0.42 < share < 0.65


def test_random_crops_depend_on_the_default_generator_alone():
    image = picture(100, 140)
    for transform in (RandomCrop(20), RandomResizedCrop(20)):
        torch.manual_seed(4)
        first = transform(image)
        assert not torch.equal(first, transform(image))
        torch.manual_seed(4)
        assert torch.equal(first, transform(image))


def test_nonsense_scales_are_refused():
    with pytest.raises(ValueError, match="scale"):
        RandomResizedCrop(20, scale=(0.9, 1.5))
