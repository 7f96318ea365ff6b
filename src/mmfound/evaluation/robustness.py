"""Accuracy under shifts of one label space, beside the accuracy without them.

Shape letters: n samples of this rank, N of all, C classes of the reference, G classes of a shift.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmfound import distributed
from mmfound.data.source import Source
from mmfound.data.sources.subset import Subset
from mmfound.errors import ConfigError, DataError
from mmfound.evaluation.common_corruptions import NAME, CommonCorruptions
from mmfound.evaluation.earlier import EffectiveRobustness, ReferenceModel, check_record, record
from mmfound.evaluation.embedding import device_of, in_step
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.robustness_table import Column, metrics_of, row_of, table_of
from mmfound.evaluation.scoring import Scorer, check_scores, scorer_of
from mmfound.evaluation.selection import Spread
from mmfound.evaluation.shifts import LabelSpace, Shift
from mmfound.metrics.classification import mean_per_class
from mmfound.text.prompts import DEFAULT_TEMPLATES, Prompts, load_class_names


class Robustness(Evaluator):
    """A table with a column per shift: accuracy, clean accuracy on the same classes, drop, and what to compare with.

    Under a shift only the classes that it has compete, as is customary for ImageNet-R and -A; the clean accuracy beside
    it is that of the reference's pictures of these classes among these classes. A model that classifies is scored by
    its logits, any other by prompts, as in `ZeroShot`. The corruptions together are one shift, `corruptions`.

    Metrics, in [0, 1]: `clean_top1`, `clean_mean_per_class`; for each shift S `S_top1`, `S_mean_per_class`,
    `S_clean_top1`, `S_drop`, and if asked for `S_effective` and `S_over_reference`; `mean_*` over the shifts;
    `KIND_top1` for each corruption, over its severities.

    Args:
        source: the reference, clean: pictures with labels and class names.
        shifts: with distinct names.
        corruptions: of the reference's pictures, beside the shifts or alone.
        name: prefix of the metrics.
        templates: of prompts: sentences with `{}` for the class name, a file of them, a name that `Prompts` knows.
        class_names: the reference's classes as prompts should call them, in the order of the labels, or what
            `load_class_names` reads; those of the source by default. Class maps go by the source's own.
        replace: text to replace in class names before they enter the templates.
        effective: adds effective robustness.
        reference_model: adds differences to another model's accuracies.
        append_to: a CSV of results that gets this model's row, for `effective` and `reference_model` of others.
        model_name: in that file; `effective` leaves a row of that name out of its fit.
        max_samples: use at most so many of each source, spread over it.

    Raises:
        ConfigError: when there is no shift at all, or two have one name.
    """

    def __init__(
        self,
        source: Source,
        *,
        shifts: Sequence[Shift] = (),
        corruptions: CommonCorruptions | None = None,
        name: str = "robustness",
        templates: list[str] | str | Prompts = DEFAULT_TEMPLATES[0],
        class_names: list[str] | str | None = None,
        replace: dict[str, str] | None = None,
        effective: EffectiveRobustness | None = None,
        reference_model: ReferenceModel | None = None,
        append_to: str | None = None,
        model_name: str = "this model",
        max_samples: int | None = None,
    ) -> None:
        super().__init__(_spread(source, max_samples), name=name)
        self.shifts = list(shifts)
        self.corruptions = corruptions
        self.prompts = templates if isinstance(templates, Prompts) else Prompts(templates)
        self.class_names = list(source.classes) if class_names is None else load_class_names(class_names)
        self.replace = dict(replace or {})
        self.effective, self.reference_model = effective, reference_model
        self.append_to, self.model_name = append_to, model_name
        self._classes = list(source.classes or self.class_names)
        self._max_samples = max_samples
        names = self._column_names()
        kinds = [] if corruptions is None else corruptions.kinds
        reserved = ["clean", "mean", "model", *kinds]  # columns of the CSV, and metrics
        taken = [shift for shift in names if [*names, *reserved].count(shift) > 1 or shift.startswith("clean_")]
        if taken or not names:
            raise ConfigError(
                f"evaluator Robustness {name!r} has "
                + (f"two columns called {taken[0]!r}; rename a shift." if taken else "no shifts and no corruptions.")
            )

    def sources(self) -> dict[str, Source]:
        """The reference, and each shift's by its name."""
        return super().sources() | {f"shifts.{shift.name}": shift.source for shift in self.shifts}

    def check(self, model: nn.Module, data: Any) -> None:
        """The model classifies, all classes are mapped, earlier models have the shifts, and results can be kept."""
        user = self._user()
        check_scores(user, model, data)
        if not self._classes or len(self._classes) != len(self.class_names):
            raise DataError(
                f"{user}: {type(self.source).__name__} has {len(self._classes)} classes, and there are "
                f"{len(self.class_names)} class_names. Give one for each label, in their order."
            )
        for shift in self.shifts:
            shift.space(self._classes)
        if self.effective is not None:
            self.effective.check(self._column_names(), but=self.model_name)
        if self.corruptions is not None:
            self.corruptions.source(self.source, data)
        if self.append_to is not None:
            check_record(self.append_to)

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """The metrics; the tables are in `tables`."""
        self.check(model, data)
        self.tables.clear()
        score = scorer_of(self._user(), model, data, self.prompts, self.class_names, self.replace)
        all_classes = LabelSpace(torch.eye(len(self._classes), dtype=torch.bool))
        spaces = [all_classes, *(shift.space(self._classes) for shift in self.shifts)]
        clean, *clean_on = self._hits(model, data, score, self.source, spaces, of_reference=True)
        columns = []
        for shift, space, before in zip(self.shifts, spaces[1:], clean_on, strict=True):
            source = _spread(shift.source, self._max_samples)
            (after,) = self._hits(model, data, score, source, [space], of_reference=False)
            columns.append(self._column(shift.name, space, before, after))
        kinds = {}
        if self.corruptions is not None:
            readable = Subset(self.source, indices=clean.index_N.sort().values.tolist())  # each bad one counts once
            source = self.corruptions.source(readable, data)
            (after,) = self._hits(model, data, score, source, [all_classes], of_reference=True)
            table, kinds = self.corruptions.table(source, after.hit_N, after.index_N)
            self.tables.append(table)
            columns.append(self._column(NAME, all_classes, clean, after))
        self.tables.insert(0, table_of(columns))
        if self.append_to is not None and distributed.rank() == 0:
            record(self.append_to, self.model_name, row_of(clean.top1, columns))
        found = {"clean_top1": clean.top1, "clean_mean_per_class": clean.mean_per_class}
        return found | metrics_of(columns) | {f"{kind}_top1": value for kind, value in kinds.items()}

    def _hits(
        self,
        model: nn.Module,
        data: Any,
        score: Scorer,
        source: Source,
        spaces: list[LabelSpace],
        *,
        of_reference: bool,
    ) -> list["_Hits"]:
        """One pass over a source, counted in each label space; equal on all ranks."""
        device = device_of(model)
        found: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in spaces]
        for batch, is_new in in_step(data.eval_batches(source, device)):
            if "label" not in batch:
                raise DataError(f"{self._user()} needs labels, and {type(source).__name__} has none.")
            if of_reference and (most := int(batch["label"].max())) >= len(self._classes):
                raise DataError(f"{self._user()}: there is a label {most}, but only {len(self._classes)} class names.")
            score_nC = score(batch["image"])
            for space, parts in zip(spaces if is_new else [], found, strict=False):
                class_nG = space.of_reference(batch["label"]) if of_reference else space.of_shift(batch["label"])
                counts_n, hit, number = space.hits(score_nC, class_nG)
                parts.append((hit, number, batch["index"].to(device)[counts_n]))
        gathered = [_gathered(parts, device) for parts in found]
        if any(len(hits.hit_N) == 0 for hits in gathered):
            raise DataError(
                f"{self._user()}: {type(source).__name__} has {len(source)} samples, and none of them is of a class "
                "that is compared. Check the class maps, or raise max_samples."
            )
        return gathered

    def _column(self, name: str, space: LabelSpace, before: "_Hits", after: "_Hits") -> Column:
        effective = over = None
        if self.effective is not None:
            effective = self.effective.of(name, before.top1, after.top1, but=self.model_name)
        if self.reference_model is not None and (accuracy := self.reference_model.accuracy(name)) is not None:
            over = after.top1 - accuracy
        count = len(after.hit_N)
        return Column(name, count, after.top1, after.mean_per_class, before.top1, space.chance, effective, over)

    def _column_names(self) -> list[str]:
        return [shift.name for shift in self.shifts] + ([NAME] if self.corruptions is not None else [])

    def _user(self) -> str:
        return f"evaluator Robustness {self.name!r}"


@dataclass(frozen=True)
class _Hits:
    hit_N: Tensor  # float64
    class_N: Tensor
    index_N: Tensor

    @property
    def top1(self) -> float:
        return float(self.hit_N.mean())

    @property
    def mean_per_class(self) -> float:
        return mean_per_class(self.hit_N, self.class_N)


def _gathered(parts: list[tuple[Tensor, Tensor, Tensor]], device: torch.device) -> _Hits:
    empty = (torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    joined = (torch.cat(column) for column in zip(tuple(part.to(device) for part in empty), *parts, strict=True))
    return _Hits(*map(distributed.gather_rows, joined))


def _spread(source: Source, count: int | None) -> Source:
    return source if count is None else Spread(source, count)
