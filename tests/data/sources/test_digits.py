"""Digits: the whole set, split without a shared picture, labels and captions that agree."""

import pickle
from typing import Any, cast

import numpy as np
import pytest

from mmfound.data.sources.digits import NAMES, Digits
from mmfound.errors import ConfigError

SPLITS = {split: Digits(split) for split in ("train", "val", "test")}  # pyright: ignore[reportArgumentType]


def samples(split: str) -> list[dict[str, Any]]:
    source = SPLITS[split]
    return [cast(dict[str, Any], source[i]) for i in range(len(source))]


def test_splits_are_the_whole_set_and_share_no_picture():
    assert {split: len(source) for split, source in SPLITS.items()} == {"train": 1253, "val": 192, "test": 352}
    pictures = {split: {sample["image"].tobytes() for sample in samples(split)} for split in SPLITS}
    keys = [sample["key"] for split in SPLITS for sample in samples(split)]
    assert len(set(keys)) == len(keys) == 1797
    assert not pictures["train"] & pictures["val"]
    assert not pictures["train"] & pictures["test"]
    assert not pictures["val"] & pictures["test"]


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_is_in_every_split(split: str):
    labels = np.bincount([sample["label"] for sample in samples(split)], minlength=10)
    assert labels.min() > 0.05 * labels.sum()


def test_pictures_are_native_rgb_and_equal_scikit_learns():
    from sklearn.datasets import load_digits

    everything: Any = load_digits()
    for split in SPLITS:
        for sample in samples(split)[::50]:
            image, row = sample["image"], sample["meta"]["row"]
            assert image.shape == (8, 8, 3)
            assert image.dtype == np.uint8
            np.testing.assert_allclose(image[..., 1] * (16 / 255), everything.images[row], atol=0.04)
            assert sample["label"] == everything.target[row]
    assert max(sample["image"].max() for sample in samples("test")) == 255


def test_captions_name_the_class_of_the_label():
    source = SPLITS["val"]
    assert tuple(source.classes) == NAMES
    for sample in samples("val"):
        name = source.classes[sample["label"]]
        assert sample["captions"][:3] == [f"a handwritten {name}", f"the digit {name}", f"the digit {sample['label']}"]
        for text in sample["captions"]:
            assert not (set(text.split()) & (set(NAMES) - {name}))


def test_fingerprint_tells_splits_apart_and_copies_are_equal():
    assert len({source.fingerprint() for source in SPLITS.values()}) == 3
    copy = pickle.loads(pickle.dumps(SPLITS["test"]))
    assert copy.fingerprint() == Digits("test").fingerprint()


def test_unknown_split_is_named():
    with pytest.raises(ConfigError, match="split is 'dev'"):
        Digits("dev")  # pyright: ignore[reportArgumentType]
