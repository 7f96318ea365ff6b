"""Stages in a row."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mmfound.building import build
from mmfound.diffusion.conditioning.draws import SEEDS
from mmfound.diffusion.conditioning.low_resolution import eight_bits
from mmfound.diffusion.drawing import draw
from mmfound.diffusion.given import Given
from mmfound.diffusion.noise import SampleNoise
from mmfound.diffusion.pipeline import Link, Pipeline
from mmfound.errors import ConfigError
from tests.generating.stages import inpainting, part, randomise, smaller, stage, text

BATCH = {"tokens": torch.tensor([[1, 5, 2], [1, 6, 2], [1, 7, 2]]), "token_mask": torch.ones(3, 3, dtype=torch.bool)}
INDICES = [0, 7, 20_001]


def link(config: dict[str, Any], name: str, seed: int = 0) -> Link:
    return Link(name, randomise(build(config, "test"), seed).eval())


def row(number: int) -> dict[str, Tensor]:
    return {key: value[number : number + 1] for key, value in BATCH.items()}


@pytest.fixture(scope="module")
def base() -> Link:
    return link(stage(8, text()), "base")


@pytest.fixture(scope="module")
def upsampler() -> Link:
    return link(stage(16, smaller(8, 16)), "upsampler", seed=1)


@pytest.fixture(scope="module")
def inpainter() -> Link:
    return link(stage(8, inpainting(8), text()), "inpainter", seed=2)


def test_one_stage_draws_what_its_task_draws(base: Link):
    expected = draw(base.stage, BATCH, SampleNoise(5, INDICES))
    drawn = Pipeline([base]).sample_images(BATCH, INDICES, seed=5)
    torch.testing.assert_close(drawn, eight_bits((expected + 1) / 2), rtol=0, atol=0)


def test_an_upsampler_is_given_the_picture_before_it_in_8_bits_and_noise_of_its_own(base: Link, upsampler: Link):
    small = Pipeline([base]).sample_images(BATCH, INDICES, seed=5)
    torch.testing.assert_close(small * 255, (small * 255).round(), rtol=0, atol=1e-4)
    large = Pipeline([base, upsampler]).sample_images(BATCH, INDICES, seed=5)
    expected = draw(upsampler.stage, {"low_resolution": small}, SampleNoise(5, INDICES, 101))
    torch.testing.assert_close(large, eight_bits((expected + 1) / 2), rtol=0, atol=0)
    with_noise_of_the_first = draw(upsampler.stage, {"low_resolution": small}, SampleNoise(5, INDICES))
    assert (large - (with_noise_of_the_first + 1) / 2).abs().max() > 0.1


def test_a_picture_depends_on_its_row_seed_and_index_alone(base: Link, upsampler: Link):
    pipeline = Pipeline([base, upsampler])
    together = pipeline.sample_images(BATCH, INDICES, seed=5)
    for number, index in enumerate(INDICES):
        alone = pipeline.sample_images(row(number), [index], seed=5)
        torch.testing.assert_close(alone[0], together[number], rtol=0, atol=1.01 / 255)
    assert (pipeline.sample_images(BATCH, INDICES, seed=6) - together).abs().max() > 0.1


def test_random_parts_of_a_condition_do_not_depend_on_the_batch(base: Link):
    augmentation = part(
        "diffusion.conditioning.NoiseAugmentation", schedule=part("diffusion.schedules.CosineSchedule"), embed_dim=32
    )
    config = part("diffusion.conditioning.LowResolution", size=8, target=16, augmentation=augmentation)
    pipeline = Pipeline([base, link(stage(16, config), "noisy", seed=3)])
    together = pipeline.sample_images(BATCH, INDICES, seed=5)
    alone = pipeline.sample_images(row(1), INDICES[1:2], seed=5)
    torch.testing.assert_close(alone[0], together[1], rtol=0, atol=1.01 / 255)


def test_each_stage_tokenizes_prompts_for_itself(base: Link):
    asked = []

    def tokenize(texts):
        asked.append(list(texts))
        return row(0)

    told = Link("base", base.stage, tokenize)
    drawn = Pipeline([told]).draw({"prompt": ["a cat"]}, [3], 0)
    torch.testing.assert_close(drawn, Pipeline([base]).draw(row(0), [3], 0))
    assert asked == [["a cat"]]


def test_known_pixels_are_the_pictures_and_the_hole_is_drawn(inpainter: Link):
    image, hole = eight_bits(torch.rand(3, 8, 8)), torch.zeros(1, 8, 8, dtype=torch.bool)
    hole[:, 2:5, 3:8] = True
    drawn = Pipeline([inpainter]).draw(BATCH, INDICES, 0, given=Given(image, hole))
    known = ~hole.expand(3, 8, 8)
    for one in drawn:
        torch.testing.assert_close(one[known], image[known], rtol=0, atol=1e-6)
        assert (one - image)[~known].abs().max() > 0.05
    other = Pipeline([inpainter]).draw(BATCH, INDICES, 0, given=Given(1 - image, hole))
    assert (other - drawn)[:, hole.expand(3, 8, 8)].abs().max() > 0.05  # what is around is looked at


def test_known_pixels_stay_in_the_upsampler_too(inpainter: Link):
    config = stage(16, inpainting(16), smaller(8, 16))
    image, hole = torch.rand(3, 16, 16), torch.zeros(1, 16, 16, dtype=torch.bool)
    hole[:, 4:9, 6:15] = True
    drawn = Pipeline([inpainter, link(config, "up", seed=4)]).draw(BATCH, INDICES, 0, given=Given(image, hole))
    known = ~hole.expand(3, 16, 16)
    torch.testing.assert_close(drawn[:, known], eight_bits(image)[known].expand(3, -1), rtol=0, atol=1e-6)


def test_with_a_strength_drawing_begins_from_the_noised_picture(base: Link):
    image = torch.rand(3, 8, 8)
    drawn = Pipeline([base]).draw(BATCH, INDICES, 0, given=Given(image, strength=0.34))
    start = (image[None].expand(3, 3, 8, 8) * 2 - 1, 0.34)
    expected = draw(base.stage, {**BATCH, SEEDS: [0, 0, 0]}, SampleNoise(0, INDICES), start=start)
    torch.testing.assert_close(drawn, eight_bits((expected + 1) / 2), rtol=0, atol=0)


def test_an_upsampler_alone_enlarges_a_picture_of_ones_own(upsampler: Link):
    image = eight_bits(torch.rand(3, 8, 8))
    drawn = Pipeline([upsampler]).draw({}, [4], 0, given=Given(image))
    expected = draw(upsampler.stage, {"low_resolution": image[None]}, SampleNoise(0, [4]))
    torch.testing.assert_close(drawn, eight_bits((expected + 1) / 2), rtol=0, atol=0)
    same = Pipeline([upsampler]).sample_images({"low_resolution": image[None]}, [4], 0)
    torch.testing.assert_close(same, drawn, rtol=0, atol=0)


def test_pictures_of_the_data_are_not_looked_at(inpainter: Link):
    pipeline = Pipeline([inpainter])
    drawn = pipeline.sample_images({**BATCH, "image": torch.rand(3, 3, 8, 8)}, INDICES, 0)
    torch.testing.assert_close(drawn, pipeline.sample_images(BATCH, INDICES, 0), rtol=0, atol=0)


def test_stages_that_do_not_fit_are_both_named(base: Link, upsampler: Link):
    other = link(stage(32, smaller(16, 32)), "other")
    with pytest.raises(ConfigError, match=r"base draws pictures of 8 x 8 pixels, and other enlarges those of 16 to 32"):
        Pipeline([base, other])
    with pytest.raises(ConfigError, match=r"upsampler draws pictures of 16 x 16 pixels, and base takes no smaller"):
        Pipeline([upsampler, base])
    Pipeline([base, upsampler, other])


def test_what_a_pipeline_cannot_give_is_named():
    pooled = part("diffusion.conditioning.Pooled", key="image_embedding", width=4, embed_dim=32)
    with pytest.raises(ConfigError, match=r"prior reads \['image_embedding'\], which a pipeline has not"):
        Pipeline([link(stage(8, pooled), "prior")])


def test_a_picture_goes_with_what_becomes_of_it(base: Link, upsampler: Link):
    image, hole = torch.rand(3, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
    with pytest.raises(ConfigError, match="base draws from noise: with a picture goes a mask"):
        Pipeline([base]).check(Given(image))
    with pytest.raises(ConfigError, match="enlarges pictures of 8 pixels to 16; give it a picture"):
        Pipeline([upsampler]).check(None)
    with pytest.raises(ConfigError, match="a mask or a strength goes to a stage that draws"):
        Pipeline([upsampler]).check(Given(image, hole))
