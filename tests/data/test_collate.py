"""Batches hold what their samples have."""

import pytest
import torch

from mmfound.data import FirstCaption, RandomCaption
from mmfound.data.collate import Sample, collate, stack_images, text_ids
from mmfound.errors import ConfigError, DataError
from tests.data.words import Lengths


def sample(number: int, **changes) -> Sample:
    image = torch.full((3, 4, 5), number, dtype=torch.uint8)
    return Sample(**{"key": f"k{number}", "image": image, "caption": f"text {number % 2}", "label": number, **changes})


def test_a_full_batch_has_every_key_and_asks_the_tokenizer_once():
    tokenizer = Lengths()
    batch = collate([sample(number) for number in range(3)], tokenizer)
    assert set(batch) == {"key", "image", "tokens", "token_mask", "text_id", "label"}
    assert batch["image"].shape == (3, 3, 4, 5)
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 1, 2]
    assert batch["label"].tolist() == [0, 1, 2]
    assert tokenizer.calls == 1


def test_text_id_is_equal_exactly_where_captions_are():
    ids = collate([sample(number) for number in range(4)], Lengths())["text_id"]
    assert ids.dtype == torch.int64
    assert ids[0] == ids[2]
    assert ids[1] == ids[3]
    assert ids[0] != ids[1]
    assert text_ids(["a"]).item() == text_ids(["a"]).item()


def test_without_a_tokenizer_there_is_no_text_and_without_labels_no_label():
    assert set(collate([sample(0)], None)) == {"key", "image", "label"}
    assert set(collate([sample(0), sample(1, label=None)], None)) == {"key", "image"}
    assert set(collate([sample(0, image=None)], Lengths())) == {"key", "tokens", "token_mask", "text_id", "label"}


def test_samples_that_lack_what_others_have_are_named():
    with pytest.raises(DataError, match="1 of 2 samples .* a caption, the first is 'k1'"):
        collate([sample(0), sample(1, caption=None)], Lengths())
    with pytest.raises(DataError, match="a picture"):
        collate([sample(0), sample(1, image=None)], None)


def test_pictures_of_different_sizes_are_refused():
    with pytest.raises(ConfigError, match=r"\[3, 4, 6\] after uint8 \[3, 4, 5\]"):
        collate([sample(0), sample(1, image=torch.zeros(3, 4, 6, dtype=torch.uint8))], None)
    with pytest.raises(ConfigError, match="float32"):
        collate([sample(0), sample(1, image=torch.zeros(3, 4, 5))], None)


def test_pictures_are_stacked_in_channels_last_memory():
    images = list(torch.randint(0, 256, (5, 3, 8, 6), dtype=torch.uint8))
    stacked = stack_images(images)
    assert stacked.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(stacked, torch.stack(images))


def test_captions_are_the_first_or_any():
    captions = ["a", "b", "c"]
    assert FirstCaption()(captions) == "a"
    assert {RandomCaption()(captions) for _ in range(60)} == {"a", "b", "c"}


def test_some_captions_can_be_picked_more_often():
    picked = [RandomCaption([1, 0, 3])(["a", "b", "c"]) for _ in range(400)]
    assert set(picked) == {"a", "c"}
    assert 270 < picked.count("c") < 330


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1, float("nan")], [float("inf")]])
def test_weights_of_captions_that_make_no_sense_are_refused(weights):
    with pytest.raises(ConfigError, match="weights are"):
        RandomCaption(weights)


def test_a_sample_with_more_captions_than_weights_is_named():
    with pytest.raises(ConfigError, match=r"2 weights, but a sample has 3 captions: \['a', 'b', 'c'\]"):
        RandomCaption([1, 2])(["a", "b", "c"])
