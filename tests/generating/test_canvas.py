"""Crop and paste, and pictures at the sides of stages."""

import numpy as np
import pytest
import torch

from mmfound.diffusion.given import Given
from mmfound.generating.canvas import Canvas, box_around, central_square

# height, width, hole's rows and columns, side of the model, and the square that is drawn: top, left, side
BOXES = {
    "twice the hole": (100, 120, (40, 60), (50, 60), 16, (30, 35, 40)),
    "at least the model's side": (100, 120, (40, 44), (50, 54), 16, (34, 44, 16)),
    "moved into the picture": (100, 120, (0, 20), (110, 120), 16, (0, 80, 40)),
    "no more than the picture has": (30, 120, (5, 25), (10, 20), 64, (0, 0, 30)),
    "but the whole hole": (30, 120, (0, 30), (20, 100), 16, (-25, 20, 80)),
    "of a picture of the model's size all of it": (16, 16, (3, 9), (0, 4), 16, (0, 0, 16)),
}


@pytest.mark.parametrize("case", BOXES.values(), ids=BOXES.keys())
def test_square_shows_as_much_around_the_hole_as_the_hole_where_the_picture_has_it(case):
    height, width, rows, columns, side, expected = case
    hole = np.zeros((height, width), bool)
    hole[slice(*rows), slice(*columns)] = True
    box = box_around(hole, side)
    assert (box.top, box.left, box.side) == expected


def random_canvas(seed: int) -> Canvas:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(5, 60, 2)
    hole = np.zeros((height, width), bool)
    top, left = rng.integers(0, height), rng.integers(0, width)
    hole[top : rng.integers(top, height) + 1, left : rng.integers(left, width) + 1] = True
    picture = torch.from_numpy(rng.integers(0, 256, (3, height, width), np.uint8))
    return Canvas(picture, torch.from_numpy(hole), int(rng.integers(4, 40)))


@pytest.mark.parametrize("seed", range(20))
def test_pasting_changes_the_hole_alone_and_puts_there_what_was_drawn(seed: int):
    canvas = random_canvas(seed)
    box, picture, hole = canvas.box, canvas.picture, canvas.hole
    drawn = np.random.default_rng(seed + 100).integers(0, 256, (box.side, box.side, 3), np.uint8)
    whole = canvas.paste(drawn)
    rows, columns = np.nonzero(hole)
    assert (whole[~hole] == picture[~hole]).all()
    assert (whole[rows, columns] == drawn[rows - box.top, columns - box.left]).all()


@pytest.mark.parametrize("seed", range(20))
def test_what_was_cut_out_goes_back_to_where_it_was(seed: int):
    canvas = random_canvas(seed)
    given = canvas.given()
    square = (given.image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert (canvas.paste(square) == canvas.picture).all()


def test_what_is_beyond_the_picture_is_to_be_drawn():
    hole = torch.zeros(10, 40, dtype=torch.bool)
    hole[:, 5:35] = True
    given = Canvas(torch.zeros(3, 10, 40, dtype=torch.uint8), hole, 8).given()
    assert given.hole is not None
    assert given.hole.shape == (1, 30, 30)
    assert given.hole.all()


@pytest.mark.parametrize("side", [5, 8, 16, 23, 40])
def test_a_pixel_is_known_only_if_nothing_of_the_hole_falls_into_it(side: int):
    hole = torch.rand(1, 23, 23) < 0.1
    known = Given(torch.zeros(3, 23, 23), hole).known_at(side)[0]
    for row in range(side):
        for column in range(side):
            top, left = row * 23 // side, column * 23 // side
            bottom, right = -(-(row + 1) * 23 // side), -(-(column + 1) * 23 // side)
            assert known[row, column] == (not hole[0, top:bottom, left:right].any())


def test_a_picture_of_the_stages_side_is_taken_as_it_is():
    given = Given(torch.rand(3, 12, 12))
    assert given.image_at(12) is given.image
    assert given.image_at(6).shape == (3, 6, 6)
    assert given.image_at(30).shape == (3, 30, 30)


def test_central_square_leaves_out_as_much_on_both_ends():
    picture = torch.arange(3 * 4 * 10, dtype=torch.uint8).reshape(3, 4, 10)
    torch.testing.assert_close(central_square(picture) * 255, picture[:, :, 3:7].float())


@pytest.mark.parametrize("side", [8, 32, 64, 80])
def test_what_is_known_of_a_resized_picture_shows_nothing_of_the_hole(side: int):
    hole = torch.zeros(1, 64, 64, dtype=torch.bool)
    hole[:, 20:41, 13:50] = True
    grey = torch.full((3, 64, 64), 0.5)
    given, other = (Given(torch.where(hole, inside, grey), hole) for inside in (0.0, 1.0))
    assert torch.equal(given.known_image_at(side), other.known_image_at(side))
    known = given.known_at(side)
    assert 0 < known.sum() < side * side
    torch.testing.assert_close(given.known_image_at(side) * known, 0.5 * known.expand(3, side, side))


def test_what_is_known_far_from_the_hole_is_resized_as_usual():
    hole = torch.zeros(1, 64, 64, dtype=torch.bool)
    hole[:, :8, :8] = True
    given = Given(torch.rand(3, 64, 64), hole)
    torch.testing.assert_close(given.known_image_at(16)[:, 8:, 8:], given.image_at(16)[:, 8:, 8:])
