"""Pictures corrupted as in ImageNet-C."""

from collections.abc import Sequence

import torch

from mmfound.batch import RawSample
from mmfound.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from mmfound.data.decode import decode
from mmfound.data.source import Source
from mmfound.errors import ConfigError, DataError


class Corrupted(Source):
    """Every sample of a source once for each corruption and severity, behind one another.

    ImageNet-C corrupts what a network sees, after resizing and cropping: put a `Transformed` in between, as the
    evaluator `Robustness` does by itself. The noise is a function of (seed, corruption, severity, the sample's key).

    Attributes:
        classes: those of the source.
        variants: (corruption, severity) of each of the `len(variants)` versions of a sample.

    Args:
        source: the samples.
        kinds: names of corruptions; all fifteen by default.
        severities: 1 to 5; all by default.
        seed: of the noise.

    Raises:
        ConfigError: when there is no such corruption or severity.

    Source: Hendrycks & Dietterich 2019, arXiv:1903.12261; what differs is said in `mmfound.data.corruptions`.
    """

    def __init__(
        self,
        source: Source,
        *,
        kinds: Sequence[str] | None = None,
        severities: Sequence[int] = SEVERITIES,
        seed: int = 0,
    ) -> None:
        kinds = list(CORRUPTIONS) if kinds is None else list(kinds)
        check_versions(kinds, severities)
        self.source, self.classes = source, source.classes
        self.variants = [(kind, severity) for kind in kinds for severity in severities]
        self.seed = seed
        self._last: tuple[int, RawSample, torch.Tensor] | None = None  # versions follow one another: decode once

    def __len__(self) -> int:
        """Samples times versions."""
        return len(self.source) * len(self.variants)

    def __getitem__(self, index: int) -> RawSample:
        """Version `index % len(variants)` of a sample; its meta has `corruption` and `severity`."""
        if not 0 <= index < len(self):
            raise IndexError(f"Corrupted has {len(self)} samples; there is no number {index}")
        number, version = divmod(index, len(self.variants))
        kind, severity = self.variants[version]
        sample, image = self._decoded(number)
        pixels = corrupt(image, kind, severity, self.seed, sample["key"]).permute(1, 2, 0).contiguous().numpy()
        meta = {**sample.get("meta", {}), "corruption": kind, "severity": severity}
        return {**sample, "key": f"{sample['key']}:{kind}:{severity}", "image": pixels, "meta": meta}

    def stretches(self) -> Sequence[int]:
        """Those of the source, times versions."""
        return [stretch * len(self.variants) for stretch in self.source.stretches()]

    def fingerprint(self) -> str:
        """The source's, the versions and the seed."""
        return f"Corrupted:{self.variants}:{self.seed}:{self.source.fingerprint()}"

    def _decoded(self, number: int) -> tuple[RawSample, torch.Tensor]:
        if self._last is None or self._last[0] != number:
            sample = self.source[number]
            if "image" not in sample:
                raise DataError(f"Corrupted: {sample['key']} of {type(self.source).__name__} has no picture.")
            self._last = (number, sample, decode(sample["image"]))
        return self._last[1:]


def check_versions(kinds: Sequence[str], severities: Sequence[int]) -> None:
    """Refuse corruptions and severities that there are not, or that are named twice.

    Raises:
        ConfigError: naming them.
    """
    unknown = [kind for kind in kinds if kind not in CORRUPTIONS or kinds.count(kind) > 1]
    if unknown or not kinds:
        raise ConfigError(f"corruptions: kinds {unknown or kinds} must be some of {', '.join(CORRUPTIONS)}, each once.")
    if not severities or not set(severities) <= set(SEVERITIES) or len(set(severities)) < len(severities):
        raise ConfigError(f"corruptions: severities {list(severities)} must be some of 1, 2, 3, 4, 5, each once.")
