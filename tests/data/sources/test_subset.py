"""Parts of a source keep its samples, order and stretches."""

from pathlib import Path

import pytest

from mmfound.data import Digits, Source
from mmfound.data.sources import Subset
from mmfound.errors import ConfigError


class Numbers(Source):
    classes = ("even", "odd")

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int):
        return {"key": str(index), "captions": [f"number {index}"]}

    def stretches(self) -> list[int]:
        return [4, 4, 2]


@pytest.mark.parametrize(
    ("arguments", "keys", "stretches"),
    [
        ({"start": 3, "stop": 6}, "345", [1, 2]),
        ({"every": 4}, "048", [1, 1, 1]),
        ({"stop": 99, "start": 8}, "89", [2]),
        ({"indices": [7, 1, 1]}, "711", [3]),
        ({"indices": [1, 9]}, "19", [1, 1]),
    ],
)
def test_the_chosen_samples_are_there(arguments: dict, keys: str, stretches: list[int]):
    part = Subset(Numbers(), **arguments)
    assert [part[n]["key"] for n in range(len(part))] == list(keys)
    assert part.stretches() == stretches
    assert list(part.captions()) == [f"number {key}" for key in keys]
    assert part.classes == ("even", "odd")


def test_other_parts_have_other_fingerprints():
    prints = {Subset(Digits(), **chosen).fingerprint() for chosen in ({}, {"stop": 5}, {"every": 2}, {"indices": [3]})}
    assert len(prints) == 4


@pytest.mark.parametrize(
    "arguments", [{"start": 10}, {"every": 0}, {"indices": [10]}, {"indices": [-1]}, {"indices": [1], "stop": 2}]
)
def test_parts_that_are_not_there_are_refused(arguments: dict):
    with pytest.raises(ConfigError, match="Subset"):
        Subset(Numbers(), **arguments)


def test_there_is_no_sample_outside(tmp_path: Path):
    with pytest.raises(IndexError, match="3 samples"):
        Subset(Numbers(), stop=3)[3]
