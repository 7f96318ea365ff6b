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

OWN = "prompt"  # field of a sample's `meta`: its own prompt


def told(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What a model may know of samples that it draws: everything but their pictures, and the captions as `prompt`."""
    known = {name: value for name, value in batch.items() if name != "image"}
    captions = batch.get("captions")
    return known if captions is None else {**known, "prompt": [(of_one or [""])[0] for of_one in captions]}


def require_drawing(user: str, model: nn.Module, data: Any, source: Source, *added: str) -> None:
    """Refuse a model that does not draw, or not from what it would be told of these samples.

    Args:
        user: the evaluator, as it is called in the recipe.
        model: the task, or stages in a row.
        data: the DataModule, whose tokenizer says whether there are tokens.
        source: the samples; the first stands for all.
        added: keys of the batch that the evaluator makes itself.

    Raises:
        ConfigError: naming the evaluator and what is missing.
    """
    require_abilities(user, model, "sample_images")
    check = getattr(model, "check_sampling", None)
    if check is None:
        return
    keys = {*source[0], "index", *added} - {"image"}
    if "captions" in keys:
        keys |= {"prompt"} if getattr(data, "tokenizer", None) is None else {"prompt", "tokens", "token_mask"}
    try:
        check(keys)
    except ConfigError as error:
        raise ConfigError(f"{user}: {error}") from error


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
