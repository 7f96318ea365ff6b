from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from mmfound.data import Shapes
from mmfound.data.sources.shapes_captions import STYLES, caption, place, relation
from mmfound.data.sources.shapes_fit import Fit, ShapesFit
from mmfound.data.sources.shapes_matching import LOOKS, cover
from mmfound.data.sources.shapes_prompt import asked
from mmfound.data.sources.shapes_render import coverage
from mmfound.data.sources.shapes_scene import Item, Scene
from mmfound.errors import ConfigError, DataError


def pictures(source: Shapes) -> Tensor:
    return torch.from_numpy(np.stack([source[i]["image"] for i in range(len(source))])).permute(0, 3, 1, 2) / 255


def looks(scene: Scene) -> list[Any]:
    return [(item.colour, item.shape, item.size) for item in scene.items]


@pytest.mark.parametrize(("size", "objects"), [(32, 1), (64, 1), (32, 2), (24, 3)])
def test_true_pictures_give_their_scene_back_to_a_fiftieth_of_a_pixel(size: int, objects: int):
    source = Shapes(24, size, objects=(objects, objects), backgrounds=("black", "dark grey", "light grey", "white"))
    for number, fit in enumerate(ShapesFit()(pictures(source), objects)):
        scene = source.scene(number)
        assert looks(fit.scene) == looks(scene), number
        for found, true in zip(fit.scene.items, scene.items, strict=True):
            assert abs(found.x - true.x) * size < 0.02
            assert abs(found.y - true.y) * size < 0.02
        assert abs(fit.scene.tone - scene.tone) <= 1
        assert fit.residual < 0.01
        assert fit.explained > 0.97
        assert fit.apart > 0.999


def test_a_fit_does_not_depend_on_the_batch():
    image = pictures(Shapes(12, 32, objects=(1, 1)))
    together = ShapesFit()(image, 1)
    alone = ShapesFit(batch_size=5)(image, 1)
    assert [looks(fit.scene) for fit in together] == [looks(fit.scene) for fit in alone]
    np.testing.assert_allclose([fit.residual for fit in together], [fit.residual for fit in alone], atol=1e-4)


def test_covers_are_the_renderers():
    x, y = np.float32([0.4, 0.53]), np.float32([0.61, 0.5])
    for number, look in enumerate(LOOKS):
        both = cover(np.array([number, number]), x, y, 32)
        for row in range(2):
            true = coverage(Item("red", *look, x=float(x[row]), y=float(y[row])), 32)
            np.testing.assert_allclose(both[row], true, atol=1e-4)


def test_slightly_blurred_and_noisy_pictures_are_found_with_their_attributes():
    source = Shapes(48, 32, objects=(1, 1))
    blurred = gaussian_blur(pictures(source), [5, 5], [0.6, 0.6])
    fits = ShapesFit()((blurred + 0.02 * torch.randn(blurred.shape)).clamp(0, 1), 1)
    assert sum(fit.found() for fit in fits) >= 45
    assert [looks(fit.scene) for fit in fits] == [looks(source.scene(i)) for i in range(48)]


def found(fits: list[Fit]) -> int:
    return sum(fit.found() for fit in fits)


def test_nothing_too_few_and_too_many_are_not_found():
    one, two = (pictures(Shapes(24, 32, objects=(n, n))) for n in (1, 2))
    fit = ShapesFit()
    assert found(fit(torch.rand(4, 3, 32, 32), 1)) == 0
    assert found(fit(torch.linspace(0, 1, 4)[:, None, None, None].expand(4, 3, 32, 32), 1)) == 0
    assert found(fit(one, 2)) == 0
    assert found(fit(two, 1)) <= 1
    assert found(fit((one + one.roll(1, 0)) / 2, 1)) <= 2


def test_a_picture_of_what_is_no_number_is_not_found():
    image = torch.full((2, 3, 32, 32), float("nan"))
    assert [fit.found() for objects in (1, 2) for fit in ShapesFit()(image, objects)] == [False] * 4


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_a_caption_asks_for_what_its_scene_has(objects: int):
    source = Shapes(200, objects=(objects, objects))
    for number in range(200):
        scene = source.scene(number)
        for style in STYLES:
            want = asked(caption(scene, style))
            says_size, says_place = style in ("sized", "descriptive"), style == "descriptive"
            says_place |= style == "relation" and objects == 1
            for item, other in zip(want.items, scene.items, strict=True):
                assert (item.colour, item.shape) == (other.colour, other.shape)
                assert item.size == (other.size if says_size else None)
                assert item.place == (place(other) if says_place else None)
            assert len(want.relations) == (objects - 1 if style in ("relation", "descriptive") else 0)
            for a, words, b in want.relations:
                assert relation(scene.items[a], scene.items[b]) == words
            assert want.background == (scene.background if style == "descriptive" else None)


@pytest.mark.parametrize(
    "prompt", ["", "a dog", "a red circle left of", "red circle, blue star and", "a red circle in the garden"]
)
def test_other_prompts_are_refused(prompt: str):
    with pytest.raises(DataError, match="not one of Shapes' captions"):
        asked(prompt)


def test_pictures_that_are_no_squares_are_refused():
    with pytest.raises(ConfigError, match=r"not \[1, 3, 32, 30\]"):
        ShapesFit()(torch.rand(1, 3, 32, 30), 1)
