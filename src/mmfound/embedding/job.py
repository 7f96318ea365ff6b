"""What is embedded: with which weights, from which source, into what."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import mmfound
from mmfound.batch import RawSample
from mmfound.data.source import Source
from mmfound.encoders import LoadedEncoder
from mmfound.errors import ConfigError
from mmfound.runs.folder import changes

FORMAT = 1
Dtype = Literal["float32", "float16"]
Side = Literal["image", "text"]
_PLACES = ("weights", "source", "mmfound")  # may change without changing an embedding


@dataclass(frozen=True)
class Job:
    """An order to embed.

    Args:
        loaded: the encoder.
        weights: where it came from.
        source: the samples.
        place: where they came from: a path, or a class_path with its init_args.
        said: what was said of weights of another library, as `load_encoder` takes it.
        side: embed the pictures, or the first captions.
        dtype: of the embeddings in the file.
        part_size: samples per part, the unit of work that a kill may lose.
    """

    loaded: LoadedEncoder
    weights: str
    source: Source
    place: str | Mapping[str, Any]
    said: Mapping[str, Any] = field(default_factory=dict)
    side: Side = "image"
    dtype: Dtype = "float32"
    part_size: int = 1024

    def __post_init__(self) -> None:
        if self.side == "text" and self.loaded.tokenizer is None:
            raise ConfigError(f"{self.weights} has no tokenizer beside it, so it cannot embed captions.")

    def facts(self) -> dict[str, Any]:
        """What the file says about itself; equal for equal embeddings, but for places."""
        picture = self.loaded.picture
        return {
            "format": FORMAT,
            "mmfound": mmfound.__version__,
            "weights": absolute(self.weights),
            "weights_sha256": self.loaded.fingerprint,
            "said": dict(self.said),
            "source": absolute(self.place) if isinstance(self.place, str) else dict(self.place),
            "source_fingerprint": self.source.fingerprint(),
            "samples": len(self.source),
            "side": self.side,
            "picture": asdict(picture),
            "dtype": self.dtype,
            "part_size": self.part_size,
        }


class Captions(Source):
    """The samples of a source without their pictures, which then need not be decoded."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.source)

    def __getitem__(self, index: int) -> RawSample:
        """The raw sample at `index`."""
        sample = self.source[index].copy()
        sample.pop("image", None)
        return sample


def absolute(place: str) -> str:
    """A path that is right from everywhere; anything else as it is."""
    return place if place in ("shapes", "digits") or "://" in place else os.path.abspath(place)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Facts that make other embeddings, one a line: `dtype: float32 -> float16`."""
    kept = [{name: value for name, value in facts.items() if name not in _PLACES} for facts in (before, now)]
    return changes(kept[0], kept[1])


def refuse_others(path: Path, before: Mapping[str, Any], now: Mapping[str, Any], way_out: str) -> None:
    """Compare the facts of what lies at `path` with those asked for now.

    Raises:
        ConfigError: with what differs.
    """
    lines = differences({name: before.get(name) for name in now}, now)
    if lines:
        raise ConfigError(f"{path} was begun otherwise ({'; '.join(lines)}); {way_out}")
