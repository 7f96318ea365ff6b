"""The exact score on Shapes: what was asked for, found in the drawn pictures by fitting the renderer.

Shape letters: B samples, S side.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.data.source import Source
from mmfound.data.sources.shapes_captions import place
from mmfound.data.sources.shapes_fit import Fit
from mmfound.data.sources.shapes_prompt import asked
from mmfound.data.sources.shapes_scene import CLASSES
from mmfound.errors import ConfigError
from mmfound.evaluation.abilities import require_tokenizer
from mmfound.evaluation.attributes import Judge, Verdict, look, tally
from mmfound.evaluation.embedding import device_of, gather_lists, in_step
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.prompted import OWN, Prompted, require_drawing, told
from mmfound.evaluation.table import Table
from mmfound.metrics.intervals import wilson_interval

_OTHERS = 16  # prompts of other samples that every picture is compared to for chance

Tally = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class _Drawn:
    """One picture: number of the sample, its own prompt, what the fit and the detector see."""

    index: int
    prompt: str
    fit: Fit
    seen_class: int | None

    def verdict(self, judge: Judge) -> Verdict:
        """The judge's, and the detector's where there is one and one object was asked for."""
        wanted = asked(self.prompt)
        verdict = dict(judge.compare(self.fit, wanted))
        if self.seen_class is not None and len(wanted.items) == 1:
            verdict["detector"] = CLASSES[self.seen_class] == look(wanted.items[0])
            if verdict["found"]:
                verdict["agreement"] = CLASSES[self.seen_class] == look(self.fit.scene.items[0])
        return verdict


class AttributeScore(Evaluator):
    """Share of drawn pictures that show what their prompt asks for, on samples whose prompts are captions of `Shapes`.

    Every sample's prompt is one of its captions, in turn its first, second and so on. Metrics, each with `_seen` and
    `_unseen`, in [0, 1] and over the prompts that say something of it (`mmfound.evaluation.attributes.Judge`): `all`,
    `color`, `shape`, `size`, `position`, `relation`, `background`, `found`; `shuffled`, which is `all` where every
    picture was drawn for another sample's prompt and should be at chance; with a detector, `detector`, how often it
    sees the colour and shape asked for, and `agreement`, how often it sees those of the fit.

    Tables: `score`, with 95 % intervals (Wilson), the score under shuffled prompts, chance (these pictures against
    prompts of other samples) and the score of the samples' true pictures; `pictures`, what was found in each.

    Args:
        seen: `Shapes`, or other samples with such captions, of combinations that were trained on.
        unseen: the same, of held-out combinations.
        name: prefix of the metrics.
        samples: pictures of each, spread over the source.
        shuffled: how many are drawn again under shuffled prompts; 0 for none.
        seed: of the noise; a picture depends on it, its number and its prompt alone.
        judge: with bounds of its own.
        detector: [B, 3, S, S] in [0, 1] to [B, 64] logits of `Shapes.classes`: a second opinion.
        detector_size: S; pictures of another size are resized to it.
    """

    added: tuple[str, ...] = ()  # keys of pictures that `sample` gives the model

    def __init__(
        self,
        seen: Source,
        unseen: Source | None = None,
        *,
        name: str = "attribute",
        samples: int = 512,
        shuffled: int = 128,
        seed: int = 0,
        judge: Judge | None = None,
        detector: nn.Module | None = None,
        detector_size: int = 32,
    ) -> None:
        super().__init__(seen, name=name)
        self.unseen = unseen
        self.samples, self.shuffled, self.seed = samples, shuffled, seed
        self.judge = judge or Judge()
        self.detector, self.detector_size = detector, detector_size
        self._true: dict[str, Tally] = {}  # of the true pictures, which do not change
        if samples < 2 or shuffled < 0 or shuffled == 1:
            raise ConfigError(
                f"evaluator AttributeScore {name!r}: samples {samples} must be 2 or more, shuffled {shuffled} 0 or 2 "
                "or more."
            )

    def check(self, model: nn.Module, data: Any) -> None:
        """The model draws, there is a tokenizer, and the first prompts are understood."""
        user = f"evaluator AttributeScore {self.name!r}"
        require_drawing(user, model, *self.added)
        require_tokenizer(user, data)
        for source in self._splits().values():
            for prompt in Prompted(source, 1).captions():
                asked(prompt)

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """Draw, fit, compare."""
        self.check(model, data)
        metrics: dict[str, float] = {}
        rows, pictures = [], []
        for split, source in self._splits().items():
            drawn = self._draw(model, data, Prompted(source, self.samples))
            verdicts = [one.verdict(self.judge) for one in drawn]
            score, chance = tally(verdicts), self._chance(drawn)
            shuffled = self._shuffled(model, data, source)
            metrics |= {f"{name}_{split}": hits / total for name, (hits, total) in score.items()}
            metrics |= {f"shuffled_{split}": hits / total for hits, total in [shuffled.get("all", (0, 0))] if total}
            rows += _score_rows(split, score, shuffled, chance, self._true_pictures(model, data, split, source))
            pictures += [_picture_row(split, one, found["all"]) for one, found in zip(drawn, verdicts, strict=True)]
        self.tables = [
            Table("score", ["score", "pictures", "share", "low", "high", "shuffled", "chance", "true"], rows),
            Table("pictures", ["split", "index", "prompt", "right", "nearest", "residual", "explained"], pictures),
        ]
        return metrics

    def sources(self) -> dict[str, Source]:
        """Seen, and unseen where there are any."""
        return self._splits()

    def sample(self, model: Any, batch: Mapping[str, Any]) -> Tensor:
        """[B, 3, S, S] in [0, 1]: a picture for each sample of the batch, of whose own it knows nothing."""
        return model.sample_images(told(batch), batch["index"].tolist(), self.seed)

    def _splits(self) -> dict[str, Source]:
        return {"seen": self.source} | ({} if self.unseen is None else {"unseen": self.unseen})

    def _draw(self, model: Any, data: Any, source: Source) -> list[_Drawn]:
        """All ranks' pictures in the order of the samples, each judged by the sample's own prompt."""
        drawn: list[_Drawn] = []
        for batch, is_new in in_step(data.eval_batches(source, device_of(model))):
            image = self.sample(model, batch)
            if is_new:
                drawn += self._look(image, batch)
        return sorted(gather_lists(drawn), key=lambda one: one.index)

    def _look(self, image: Tensor, batch: Mapping[str, Any]) -> Iterator[_Drawn]:
        image = image.float().clamp(0, 1)
        prompts = [meta[OWN] for meta in batch["meta"]]
        classes = [None] * len(image) if self.detector is None else self._detect(self.detector, image)
        return map(_Drawn, batch["index"].tolist(), prompts, self.judge.fits(image, prompts), classes)

    def _detect(self, detector: nn.Module, image: Tensor) -> list[int]:
        if image.shape[-1] != self.detector_size:
            image = F.interpolate(image, size=(self.detector_size,) * 2, mode="bilinear", antialias=True)
        with torch.autocast(image.device.type, enabled=False):
            return detector.to(image.device)(image).argmax(dim=1).tolist()

    def _shuffled(self, model: Any, data: Any, source: Source) -> Tally:
        if not self.shuffled:
            return {}
        shuffled = Prompted(source, min(self.shuffled, self.samples), shuffle_seed=self.seed)
        return tally(one.verdict(self.judge) for one in self._draw(model, data, shuffled))

    def _chance(self, drawn: list[_Drawn]) -> Tally:
        """The same pictures against prompts of other samples."""
        wanted = [asked(one.prompt) for one in drawn]
        shifts = range(1, min(_OTHERS + 1, len(drawn)))
        return tally(
            self.judge.compare(one.fit, wanted[row - shift]) for shift in shifts for row, one in enumerate(drawn)
        )

    def _true_pictures(self, model: nn.Module, data: Any, split: str, source: Source) -> Tally:
        if split not in self._true:
            own: list[_Drawn] = []
            for batch in data.eval_batches(Prompted(source, self.samples), device_of(model)):
                own += self._look(batch["image"], batch)
            self._true[split] = tally(one.verdict(self.judge) for one in gather_lists(own))
        return self._true[split]


def _score_rows(split: str, score: Tally, shuffled: Tally, chance: Tally, true: Tally) -> list[list[Any]]:
    def share(of: Tally, name: str) -> float | None:
        hits, total = of.get(name, (0, 0))
        return hits / total if total else None

    return [
        [f"{name}_{split}", total, hits / total, *wilson_interval(hits, total)]
        + [share(other, name) for other in (shuffled, chance, true)]
        for name, (hits, total) in score.items()
    ]


def _picture_row(split: str, one: _Drawn, right: bool) -> list[Any]:
    items = one.fit.scene.items
    nearest = ", ".join(f"{item.size} {item.colour} {item.shape} in the {place(item)}" for item in items)
    return [split, one.index, one.prompt, int(right), nearest, one.fit.residual, one.fit.explained]
