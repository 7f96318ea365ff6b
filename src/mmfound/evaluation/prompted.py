"""Samples with the prompt that a model is given for each."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from mmfound.batch import RawSample
from mmfound.data.source import Source
from mmfound.errors import ConfigError, DataError
from mmfound.evaluation.abilities import require_abilities
from mmfound.evaluation.selection import Spread

LOW = "low_resolution"  # key of the small picture that a stage enlarges
OWN = "prompt"  # field of a sample's `meta`: its own prompt


def told(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What a model may know of samples that it draws: everything but their pictures, and the captions as `prompt`."""
    known = {name: value for name, value in batch.items() if name != "image"}
    captions = batch.get("captions")
    return known if captions is None else {**known, "prompt": [(of_one or [""])[0] for of_one in captions]}


def require_drawing(user: str, model: nn.Module, *given: str) -> None:
    """Refuse a model that does not draw, needs a picture that it would not be given, or has no use for the one it is.

    Args:
        user: the evaluator, as it is called in the recipe.
        model: the task, or stages in a row; its `pictures`, if it has any, are keys of pictures that it needs.
        given: keys of pictures that the evaluator adds to the batch.

    Raises:
        ConfigError: naming the evaluator and the picture.
    """
    require_abilities(user, model, "sample_images")
    needed = getattr(model, "pictures", None)
    if needed is None:
        return
    if missing := sorted(set(needed) - set(given)):
        raise ConfigError(
            f"{user} has models draw from prompts and labels alone, but the first stage here needs {missing} as well. "
            "Put mmfound.evaluation.Chained around it with the export that draws first, or use Upscaling."
        )
    if LOW in given and LOW not in needed:
        raise ConfigError(
            f"{user} has models enlarge pictures, but the first stage here takes none. Give it a LowResolution, or "
            "take the evaluator out of the recipe."
        )


class Prompted(Source):
    """At most `count` samples spread over a source, with one caption each: in turn their first, second and so on.

    So all kinds of captions of a source are asked for. `meta["prompt"]` holds the sample's own one.

    Args:
        source: samples with captions.
        count: how many, at least 1.
        shuffle_seed: of a permutation without fixed points, after which every sample has another's caption.
    """

    def __init__(self, source: Source, count: int, *, shuffle_seed: int | None = None) -> None:
        self._source, self.classes = Spread(source, count), source.classes
        self._from = list(range(len(self._source)))
        if shuffle_seed is not None:
            order = torch.randperm(len(self._from), generator=torch.Generator().manual_seed(shuffle_seed)).tolist()
            for row, following in zip(order, order[1:] + order[:1], strict=True):
                self._from[row] = following

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> RawSample:
        sample = self._source[index]
        own, shown = self._prompt(sample, index), self._from[index]
        caption = own if shown == index else self._prompt(self._source[shown], shown)
        return {**sample, "captions": [caption], "meta": {**sample.get("meta", {}), OWN: own}}

    def captions(self) -> Iterable[str]:
        """The prompts, in order."""
        return (caption for index in range(len(self)) for caption in self[index].get("captions", []))

    def fingerprint(self) -> str:
        """The source's, and which samples have which prompts."""
        return f"Prompted:{self._from[:2]}:{self._source.fingerprint()}"

    def _prompt(self, sample: RawSample, index: int) -> str:
        captions = sample.get("captions")
        if not captions:
            raise DataError(f"{self._source.fingerprint()} has no caption at {index} to ask for; use one that has.")
        return captions[index % len(captions)]
