from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from mmfound.data import Digits, Shapes
from mmfound.data.sources.shapes_captions import caption
from mmfound.data.sources.shapes_holes import Refilled, known
from mmfound.data.sources.shapes_render import coverage
from mmfound.errors import ConfigError
from mmfound.evaluation import InpaintScore
from tests.evaluation.drawing import Draws, data, picture

SEEN, UNSEEN = (Shapes(64, 32, split=split, objects=(1, 1), held_out="colour_shape") for split in ("val", "test"))


class Fills(Draws):
    """Draws what the prompt asks for around the middle of the hole; `kind` is what it does with known pixels."""

    def sample_images(self, batch: Mapping[str, Any], indices: Sequence[int], seed: int) -> Tensor:
        image, mask = batch["known_image"], batch["mask"]
        if self.kind == "restores":
            return image
        texts = ["".join(chr(token) for token in row if token) for row in batch["tokens"].tolist()]
        drawn = torch.stack([inside(text, hole) for text, hole in zip(texts, mask, strict=True)])
        tone = image[:, :, :1, :1]  # of the plain background
        filled = torch.where(drawn < 0, tone, drawn)
        if self.kind == "careless":
            return (filled + 2 / 255).clamp(0, 1)
        return torch.where(mask.bool(), image, filled)


def inside(prompt: str, mask: Tensor) -> Tensor:
    """[3, 32, 32] a medium object where the hole is, -1 elsewhere."""
    rows, columns = (mask[0] == 0).nonzero().float().add(0.5).mean(dim=0).round().int().tolist()
    whole = picture(prompt.replace("a ", "a small ", 1), 0)  # in the middle, on a tone of 200
    whole = torch.where((whole - 200 / 255).abs().amax(dim=0) < 0.01, -1.0, whole)
    return whole.roll((rows - 16, columns - 16), dims=(1, 2))


def test_filling_in_what_is_asked_for_is_right_and_restoring_what_was_there_is_half_right():
    score = InpaintScore(SEEN, UNSEEN, samples=64, shuffled=64)
    found = score.evaluate(Fills(), data(SEEN))
    assert found["all_seen"] > 0.9
    assert found["all_unseen"] > 0.9
    assert found["shuffled_seen"] < 0.1
    assert found["known_error"] == 0
    rows = {row[0]: row for row in score.tables[0].rows}
    assert 0.3 < rows["all_seen"][7] < 0.7  # the true picture
    restored = InpaintScore(SEEN, samples=64, shuffled=0).evaluate(Fills("restores"), data(SEEN))
    assert restored["all_seen"] == rows["all_seen"][7]


def test_changed_known_pixels_show():
    found = InpaintScore(SEEN, samples=16, shuffled=0).evaluate(Fills("careless"), data(SEEN))
    assert found["known_error"] == 2


@pytest.mark.parametrize("objects", [(1, 1), (2, 3)])
def test_half_of_the_prompts_name_another_object_and_the_hole_covers_the_one_that_was_there(objects: tuple[int, int]):
    source = Shapes(200, 32, split="test", objects=objects, held_out="colour_shape")
    refilled = Refilled(source)
    changed = 0
    for index in range(200):
        sample, scene = refilled[index], source.scene(index)
        [prompt] = sample["captions"]
        changed += prompt != caption(scene, "plain")
        hole = cast(list[float], sample["meta"]["hole"])
        [hidden] = [item for item in scene.items if [item.x, item.y, item.radius] == hole]
        mask = known([hole], 32, 2.0)[0, 0]
        assert (mask.numpy() * coverage(hidden, 32)).max() == 0
        others = [coverage(item, 32).sum() for item in scene.items if item is not hidden]
        assert all(others)
        assert 0 < mask.mean() < 1
    assert 70 < changed < 130
    assert Refilled(source, 0)[7]["captions"] == [caption(source.scene(7), "plain")]
    assert all(Refilled(source, 1)[i]["captions"] != [caption(source.scene(i), "plain")] for i in range(20))


def test_what_cannot_be_refilled_is_named():
    with pytest.raises(ConfigError, match="not Digits"):
        Refilled(cast(Any, Digits()))
    with pytest.raises(ConfigError, match=r"replaced is 1\.5"):
        Refilled(SEEN, 1.5)
    with pytest.raises(ConfigError, match="same objects everywhere"):
        Refilled(Shapes(1, 32, objects=(1, 1)), 1)[0]
