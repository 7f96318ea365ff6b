"""Any torchvision data set."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from mmfound.batch import RawSample
from mmfound.data.source import Source
from mmfound.errors import DataError


class Torchvision(Source):
    """A torchvision data set of (PIL picture, label) or (PIL picture, captions), built by its class path.

    Args:
        dataset: the data set, without transforms.
        classes: names of the labels; the data set's own by default.
        template: the caption of a labelled picture, with `{}` for the name of its class; null for none.

    Raises:
        DataError: when the data set's samples are neither.
    """

    def __init__(
        self, dataset: Dataset, *, classes: Sequence[str] | None = None, template: str | None = "a photo of a {}"
    ) -> None:
        self.dataset: Any = dataset
        self.template = template
        self.classes = list(classes if classes is not None else getattr(dataset, "classes", ()))
        if not len(self.dataset):
            raise DataError(f"{type(dataset).__name__} is empty. Check its root and split.")
        self[0]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> RawSample:
        """The raw sample at `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"{type(self.dataset).__name__} has {len(self)} samples; there is no number {index}")
        picture, target = self.dataset[index]
        sample: RawSample = {"key": f"{type(self.dataset).__name__}-{index}", "image": _pixels(picture)}
        if isinstance(target, (int, np.integer)):
            sample["label"] = int(target)
            if self.template is not None and self.classes:
                sample["captions"] = [self.template.format(self.classes[int(target)])]
        elif isinstance(target, (list, tuple)) and target and all(isinstance(text, str) for text in target):
            sample["captions"] = list(target)
        elif isinstance(target, str):
            sample["captions"] = [target]
        else:
            raise DataError(
                f"{type(self.dataset).__name__} gives a {type(target).__name__} beside each picture; "
                "Torchvision reads labels (int) and captions (str, or a list of them)."
            )
        return sample

    def captions(self) -> Iterable[str]:
        """All captions; those of the classes are not read from the pictures."""
        targets = getattr(self.dataset, "targets", None)
        if targets is None or not self.classes or self.template is None:
            yield from super().captions()
            return
        for label in targets:
            yield self.template.format(self.classes[int(label)])


def _pixels(picture: Any) -> np.ndarray:
    if not hasattr(picture, "convert"):
        raise DataError(f"the data set gives pictures as {type(picture).__name__}; take its transforms away.")
    return np.array(picture.convert("RGB"))
