import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.data import Shapes
from mmfound.data.sources.shapes_captions import caption
from mmfound.data.sources.shapes_prompt import asked
from mmfound.data.sources.shapes_render import render
from mmfound.data.sources.shapes_scene import CLASSES, Item, Scene
from mmfound.errors import ConfigError, DataError
from mmfound.evaluation import AttributeScore
from mmfound.evaluation.attributes import Judge, tally
from mmfound.evaluation.prompted import Prompted
from tests.evaluation.drawing import Draws, data, shapes


class Named(nn.Module):
    """A detector that sees red circles everywhere."""

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[-1] == 32
        return torch.arange(64, 0, -1).float().expand(len(image), 64)


def test_a_model_that_obeys_gets_one_and_chance_under_shuffled_prompts():
    source = shapes()
    score = AttributeScore(source, shapes("test", held_out="colour_shape"), samples=64, shuffled=64)
    found = score.evaluate(Draws(), data(source))
    for split in ("seen", "unseen"):
        for name in ("all", "color", "shape", "position", "size", "found"):
            assert found[f"{name}_{split}"] == 1, (name, split)
        assert found[f"shuffled_{split}"] < 0.1
    rows = {row[0]: row for row in score.tables[0].rows}
    assert rows["all_seen"][1:3] == [64, 1.0]
    assert rows["position_seen"][1] == 32  # of the four kinds of captions, two name a place
    assert rows["all_seen"][3] == pytest.approx(0.9434, abs=1e-4)  # Wilson's lower bound of 64 of 64
    assert rows["color_seen"][6] == pytest.approx(1 / 8, abs=0.06)
    assert rows["all_seen"][6] < 0.05
    assert rows["all_seen"][7] == rows["found_seen"][7] == 1  # true pictures


def test_noise_gets_nothing_and_a_model_that_peeks_at_the_sample_shows():
    source = shapes()
    noise = AttributeScore(source, samples=16, shuffled=0).evaluate(Draws("noise"), data(source))
    assert noise["found_seen"] == noise["all_seen"] == noise["color_seen"] == 0
    assert "shuffled_seen" not in noise
    leak = AttributeScore(source, samples=16, shuffled=16).evaluate(Draws("peeks"), data(source))
    assert leak["shuffled_seen"] == 1  # it draws the sample's own prompt whatever is asked for: that shows here


def test_a_detector_is_compared_to_the_prompt_and_to_the_fit():
    source = Shapes(128, 32, split="val", objects=(1, 1), styles=("plain",))
    found = AttributeScore(source, samples=128, shuffled=0, detector=Named()).evaluate(Draws(), data(source))
    share = sum(source.scene(index).items[0].name == CLASSES[0] for index in range(128)) / 128
    assert 0 < share == found["detector_seen"] == found["agreement_seen"]


@pytest.mark.parametrize("objects", [2, 3])
def test_true_pictures_of_several_objects_with_their_relation_are_right_and_others_are_not(objects: int):
    source = Shapes(16, 32, split="val", objects=(objects, objects), styles=("relation", "descriptive"))
    prompts = list(Prompted(source, 16).captions())
    image = torch.from_numpy(np.stack([source[i]["image"] for i in range(16)])).permute(0, 3, 1, 2) / 255
    judge = Judge()
    fits = judge.fits(image, prompts)
    right = tally(judge.verdict(fit, prompt) for fit, prompt in zip(fits, prompts, strict=True))
    assert right["all"] == right["relation"] == (16, 16)
    turned = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    for fit in fits:
        text = caption(fit.scene, "relation")
        words = next(words for words in turned if f" {words} " in text)
        verdict = judge.verdict(fit, text.replace(words, turned[words], 1))
        assert not verdict["relation"]
        assert not verdict["all"]
        assert verdict["color"]


def test_the_order_of_the_words_does_not_matter_but_the_count_does():
    scene = Scene((Item("red", "circle", "small", 0.3, 0.3), Item("blue", "star", "large", 0.7, 0.6)), 250)
    image = torch.from_numpy(render(scene, 32)).permute(2, 0, 1)[None] / 255
    judge = Judge()
    for prompt in ("red circle, blue star", "blue star, red circle", "a large blue star and a small red circle"):
        assert judge.verdict(judge.fits(image, [prompt])[0], prompt)["all"]
    swapped = judge.verdict(judge.fits(image, ["blue circle, red star"])[0], "blue circle, red star")
    assert not swapped["all"]
    assert swapped["found"]
    for prompt in ("a blue star", "blue star, red circle, red circle"):
        assert judge.verdict(judge.fits(image, [prompt])[0], prompt) == {
            "all": False,
            "color": False,
            "shape": False,
            "found": False,
        }


def test_a_border_lets_both_ninths_count():
    near = Scene((Item("red", "circle", "small", 0.34, 0.5),), 250)
    image = torch.from_numpy(render(near, 32)).permute(2, 0, 1)[None] / 255
    prompt = "a red circle in the middle left"
    assert not Judge().verdict(Judge().fits(image, [prompt])[0], prompt)["position"]
    kind = Judge(border=0.01)
    assert kind.verdict(kind.fits(image, [prompt])[0], prompt)["position"]


def test_the_same_fault_is_larger_the_more_pixels_there_are():
    scene = Scene((Item("red", "star", "large", 0.4, 0.5),), 250)
    image = torch.from_numpy(render(scene, 32)).permute(2, 0, 1)[None] / 255
    soft = F.interpolate(image, (64, 64), mode="bicubic").clamp(0, 1)
    large, small = (judge.fits(soft, ["a red star"])[0] for judge in (Judge(), Judge(side=32)))
    assert large.residual > 2 * small.residual
    assert Judge(side=64).fits(image, ["a red star"])[0] == Judge().fits(image, ["a red star"])[0]
    with pytest.raises(ConfigError, match="side is 8; below 16"):
        Judge(side=8)


def test_shuffled_prompts_are_never_the_samples_own():
    source = Shapes(40, 16, objects=(1, 1), styles=("descriptive",))
    own, other = list(Prompted(source, 30).captions()), Prompted(source, 30, shuffle_seed=1)
    assert sorted(other.captions()) == sorted(own)
    assert all(prompt != mine for prompt, mine in zip(other.captions(), own, strict=True))
    assert [other[row]["meta"]["prompt"] for row in range(30)] == own


def test_what_cannot_be_scored_is_refused_before_the_first_step():
    source = shapes()
    with pytest.raises(ConfigError, match="no sample_images"):
        AttributeScore(source).check(nn.Linear(1, 1), data(source))
    with pytest.raises(ConfigError, match="samples 1 must be 2 or more"):
        AttributeScore(source, samples=1)
    with pytest.raises(DataError, match="'a dog' is not one of Shapes' captions"):
        asked("a dog")
