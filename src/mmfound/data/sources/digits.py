"""Real handwritten digits that need no download: the test part of the UCI set that scikit-learn carries."""

from hashlib import blake2b
from typing import Literal, get_args

import numpy as np

from mmfound.batch import RawSample
from mmfound.data.source import Source
from mmfound.errors import ConfigError

Split = Literal["train", "val", "test"]
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Digits(Source):
    """1,797 grey pictures of 8x8 pixels, with captions and labels; let the image transform enlarge them.

    Seven tenths are train, one val, two test, by a hash of the pixels, so that no picture is in two splits.

    Attributes:
        classes: zero to nine.

    Args:
        split: which part.

    Raises:
        ConfigError: when there is no such part.

    Source: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI (CC BY 4.0).
    """

    classes = NAMES

    def __init__(self, split: Split = "train") -> None:
        if split not in get_args(Split):
            raise ConfigError(f"Digits: split is {split!r}; it must be one of {get_args(Split)}")
        from sklearn.datasets import load_digits  # slow to import

        images, labels = load_digits(return_X_y=True)
        grey = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        self.split: Split = split
        self._rows = np.flatnonzero([_split_of(picture) == split for picture in grey])
        self._grey, self._labels = grey[self._rows], np.asarray(labels, np.int64)[self._rows]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._rows)

    def __getitem__(self, index: int) -> RawSample:
        """The digit at `index`, bright strokes on black."""
        if not 0 <= index < len(self):
            raise IndexError(f"Digits has {len(self)} pictures in {self.split}; there is no number {index}")
        label = int(self._labels[index])
        return {
            "key": f"digits-{self._rows[index]:04d}",
            "image": np.repeat(self._grey[index][..., None], 3, axis=2),
            "captions": _captions(label),
            "label": label,
            "meta": {"row": int(self._rows[index])},
        }

    def fingerprint(self) -> str:
        """Split and pixels."""
        return f"Digits:{self.split}:{blake2b(self._grey.tobytes(), digest_size=8).hexdigest()}"


def _captions(label: int) -> list[str]:
    name = NAMES[label]
    return [f"a handwritten {name}", f"the digit {name}", f"the digit {label}", f"a picture of the number {name}"]


def _split_of(picture: np.ndarray) -> Split:
    bucket = blake2b(picture.tobytes(), digest_size=8).digest()[0] % 10
    return "train" if bucket < 7 else "val" if bucket == 7 else "test"
