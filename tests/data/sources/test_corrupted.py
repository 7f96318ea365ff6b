import pickle

import numpy as np
import pytest
import torch

from mmfound.data import Corrupted, Digits, ImageTextData, Resize, Subset, Transformed, TrimBorder
from mmfound.data.corruptions import CORRUPTIONS, corrupt
from mmfound.data.decode import decode
from mmfound.errors import ConfigError


def digits(count: int = 6) -> Transformed:
    return Transformed(Subset(Digits("test"), stop=count), Resize(32))


def test_every_sample_comes_once_for_each_corruption_and_severity():
    source = Corrupted(digits(), kinds=["fog", "contrast"], severities=[2, 4])
    assert len(source) == 24
    assert source.variants == [("fog", 2), ("fog", 4), ("contrast", 2), ("contrast", 4)]
    sample, clean = source[4 * 5 + 3], digits()[5]
    assert sample["label"] == clean["label"]
    assert sample["meta"] == {**clean["meta"], "corruption": "contrast", "severity": 4}
    expected = corrupt(decode(clean["image"]), "contrast", 4, 0, clean["key"])
    assert np.array_equal(sample["image"], expected.permute(1, 2, 0).numpy())
    assert len({source[index]["key"] for index in range(24)}) == 24


def test_the_noise_follows_the_sample_and_not_its_place_or_the_order_of_reading():
    whole = Corrupted(digits(), kinds=["gaussian_noise", "snow"], severities=[3])
    part = Corrupted(Transformed(Subset(Digits("test"), indices=[4, 2]), Resize(32)), kinds=["snow"], severities=[3])
    assert np.array_equal(part[0]["image"], whole[9]["image"])
    assert np.array_equal(pickle.loads(pickle.dumps(part))[1]["image"], whole[5]["image"])
    other = Corrupted(digits(), kinds=["snow"], severities=[3], seed=1)
    assert not np.array_equal(other[2]["image"], whole[5]["image"])
    assert other.fingerprint() != Corrupted(digits(), kinds=["snow"], severities=[3]).fingerprint()


def test_workers_give_the_same_pictures_as_the_main_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mmfound.data.datamodule._WORTH_WORKERS", 1)
    source = Corrupted(digits(4), severities=[3])
    images = []
    for workers in (0, 2):
        data = ImageTextData(digits(), 7, eval_image=Resize(32), workers=workers, start_method="fork", seed=workers)
        images.append(torch.cat([batch["image"] for batch in data.eval_batches(source, "cpu")]))
        data.teardown("test")
    assert images[0].shape == (60, 3, 32, 32)
    assert torch.equal(*images)


def test_default_is_all_fifteen_at_five():
    assert len(Corrupted(digits(1))) == 75
    assert len(CORRUPTIONS) == 15


@pytest.mark.parametrize("options", [{"kinds": ["fog", "fig"]}, {"severities": [0]}, {"severities": []}, {"kinds": []}])
def test_unknown_corruptions_and_severities_are_refused(options: dict):
    with pytest.raises(ConfigError, match="must be some of"):
        Corrupted(digits(), **options)


def test_a_transformed_source_gives_what_the_transform_makes_of_the_picture():
    source = Transformed(Digits("test"), TrimBorder(2))
    assert source[3]["image"].shape == (4, 4, 3)
    assert np.array_equal(source[3]["image"], Digits("test")[3]["image"][2:-2, 2:-2])
    assert (source[3]["label"], source.classes) == (Digits("test")[3]["label"], Digits("test").classes)
    assert list(source.captions()) == list(Digits("test").captions())
