"""A small source of random pictures for tests of the data layer."""

import io

import numpy as np
from PIL import Image

from mmfound.batch import RawSample
from mmfound.data import BadSample, Source


class Pictures(Source):
    """Noise pictures as PNG, each with two captions, a label and its index under `meta`.

    Args:
        count: of samples.
        bad: every bad-th sample cannot be read; 0 for none.
        captioned: whether there are captions.
        stretch: samples that lie together.
    """

    classes = ("even", "odd")

    def __init__(self, count: int, *, bad: int = 0, captioned: bool = True, stretch: int | None = None) -> None:
        self.count, self.bad, self.captioned, self.stretch = count, bad, captioned, stretch or count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> RawSample:
        if self.bad and index % self.bad == 0:
            raise BadSample("broken on purpose", "always", f"sample {index}")
        pixels = np.random.default_rng(index).integers(0, 256, (14, 12, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        sample: RawSample = {"key": f"k{index}", "image": file.getvalue(), "label": index % 2, "meta": {"index": index}}
        if self.captioned:
            sample["captions"] = [f"caption {index}", f"other caption {index}"]
        return sample

    def stretches(self) -> list[int]:
        whole, rest = divmod(self.count, self.stretch)
        return [self.stretch] * whole + [rest] * bool(rest)
