"""Pictures transformed where they are read."""

from collections.abc import Iterable, Sequence

from torch import nn

from mmfound.batch import RawSample
from mmfound.data.decode import Alpha, decode
from mmfound.data.source import Source


class Transformed(Source):
    """Another source's samples with their pictures decoded and transformed, before the recipe's own transform.

    For what belongs to one source, such as a border to be cut off; unlike other sources it decodes when it is read.

    Attributes:
        classes: those of the source.

    Args:
        source: the samples.
        image: uint8 [3, H, W] to uint8 [3, h, w]; must not be random.
        max_pixels: larger pictures count as bad before they are decoded.
        alpha: what shows through transparent pictures.
        exif: whether pictures are turned as their EXIF data say.
    """

    def __init__(
        self,
        source: Source,
        image: nn.Module,
        *,
        max_pixels: int = 64_000_000,
        alpha: Alpha = "white",
        exif: bool = False,
    ) -> None:
        self.source, self.classes = source, source.classes
        self.image = image
        self._max_pixels, self._exif = max_pixels, exif
        self._alpha: Alpha = alpha

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.source)

    def __getitem__(self, index: int) -> RawSample:
        """The sample at `index`; samples without a picture are as they were."""
        sample = self.source[index]
        if (data := sample.get("image")) is None:
            return sample
        image = self.image(decode(data, max_pixels=self._max_pixels, alpha=self._alpha, exif=self._exif))
        return {**sample, "image": image.permute(1, 2, 0).contiguous().numpy()}

    def captions(self) -> Iterable[str]:
        """Those of the source."""
        return self.source.captions()

    def stretches(self) -> Sequence[int]:
        """Those of the source."""
        return self.source.stretches()

    def fingerprint(self) -> str:
        """The source's, and the transform."""
        return f"Transformed:{self.image}:{self.source.fingerprint()}"
