"""Zero-shot classification (Radford et al. 2021, arXiv:2103.00020, section 3.1).

Shape letters: n samples of this rank, N of all, C classes, T templates, E joint embedding width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound import distributed
from mmfound.data.source import Source
from mmfound.errors import ConfigError, DataError
from mmfound.evaluation.abilities import require_abilities, require_tokenizer
from mmfound.evaluation.embedding import embed_images, embed_texts, gather_lists
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.grouping import groups_of
from mmfound.evaluation.reports import class_tables
from mmfound.metrics.classification import mean_per_class
from mmfound.metrics.ranking import expected_hits
from mmfound.text.prompts import DEFAULT_TEMPLATES, Prompts, load_class_names


class ZeroShot(Evaluator):
    """Classifies pictures by the class whose prompts are nearest.

    A class's embedding is the mean of its prompts' unit embeddings, scaled to unit length again (section 3.1.4).
    Metrics: `top1`, `top5` (with more than five classes) and `mean_per_class`, in [0, 1]. Tables: `per_class`
    and `confusion`.

    Args:
        source: pictures with labels.
        name: prefix of the metrics.
        templates: sentences with `{}` for the class name, a file of them, a name that `Prompts` knows, or `Prompts`.
        classes: the names, in the order of the labels, or a file of them; the source's own by default.
        class_field: which field of a sample's `meta` holds its class, by name or by number, instead of its label. So
            a second evaluator can score the same pictures in other classes, coarser ones for instance. Its names are
            then the distinct ones in the source, unless `classes` gives them.
        group_field: field of `meta` that joins classes into coarser ones: a prediction is then right when the class it
            names lies in the sample's group.
        replace: text to replace in class names before they enter the templates, such as `{"-": " "}`.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str = "zero_shot",
        templates: list[str] | str | Prompts = DEFAULT_TEMPLATES[0],
        classes: list[str] | str | None = None,
        class_field: str | None = None,
        group_field: str | None = None,
        replace: dict[str, str] | None = None,
    ) -> None:
        super().__init__(source, name=name)
        self.prompts = templates if isinstance(templates, Prompts) else Prompts(templates)
        self.classes = None if classes is None else load_class_names(classes)
        self.class_field = class_field
        self.group_field = group_field
        self.replace = dict(replace or {})

    def check(self, model: nn.Module, data: Any) -> None:
        """The model embeds both sides, there is a tokenizer, and as many names as classes."""
        user = f"evaluator ZeroShot {self.name!r}"
        require_abilities(user, model, "embed_image", "embed_text")
        require_tokenizer(user, data)
        own = self.source.classes
        if self.class_field is not None:
            return
        if self.classes is None and not own:
            raise ConfigError(f"{user}: {type(self.source).__name__} has no class names; give them as `classes`.")
        if self.classes is not None and own and len(own) != len(self.classes):
            raise DataError(self._mismatch(len(self.classes), len(own)))

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """Accuracy over the whole source."""
        self.check(model, data)
        image_nE, batches = embed_images(model, data, self.source)
        classes, label_n = self._labels(batches)
        class_CE = class_embeddings(model, data.tokenizer, self.prompts, classes, self.replace)
        ks = (1, 5) if len(classes) > 5 else (1,)
        with torch.autocast(image_nE.device.type, enabled=False):
            score_nC = image_nE @ class_CE.T
        group_n = label_n = label_n.to(image_nE.device)
        positive_nC = F.one_hot(label_n, len(classes)).bool()
        if self.group_field is not None:
            metas = [meta for batch in batches for meta in batch["meta"]]
            user = f"evaluator ZeroShot {self.name!r}"
            group_C = groups_of(user, self.group_field, metas, label_n.tolist(), len(classes)).to(label_n.device)
            group_n = group_C[label_n]
            positive_nC = group_C[None] == group_n[:, None]
        hit_NK = distributed.gather_rows(expected_hits(score_nC, positive_nC, ks))
        group_N = distributed.gather_rows(group_n)
        label_N, predicted_N = (distributed.gather_rows(row) for row in (label_n, score_nC.argmax(dim=1)))
        self.tables = class_tables(classes, label_N, predicted_N, hit_NK[:, 0])
        metrics = dict(zip((f"top{k}" for k in ks), hit_NK.mean(dim=0).tolist(), strict=True))
        return metrics | {"mean_per_class": mean_per_class(hit_NK[:, 0], group_N)}

    def _labels(self, batches: list[dict[str, Any]]) -> tuple[list[str], Tensor]:
        """Class names and [n] int64 labels; names and errors are the same on all ranks."""
        if self.class_field is None:
            found = [_label(batch, row) for batch in batches for row in range(len(batch["key"]))]
        else:
            found = [meta.get(self.class_field) for batch in batches for meta in batch["meta"]]
        every = gather_lists(found)
        if None in every:
            what = "label" if self.class_field is None else f"{self.class_field!r} in its meta"
            raise DataError(
                f"evaluator ZeroShot {self.name!r}: {every.count(None)} of {len(every)} samples of "
                f"{type(self.source).__name__} have no {what}; use a source that has, or set class_field."
            )
        classes = list(self.classes or (self.source.classes if self.class_field is None else _distinct(every)))
        number = {name: row for row, name in enumerate(classes)}
        labels = [number.get(value, len(classes)) if isinstance(value, str) else value for value in found]
        unknown = [value for value in every if isinstance(value, str) and value not in number]
        if unknown:
            raise DataError(
                f"evaluator ZeroShot {self.name!r}: {self.class_field} {unknown[0]!r} is none of the {len(classes)} "
                f"classes; the source has {len(set(every))}. Spell `classes` as the source does."
            )
        numbers = [value for value in every if isinstance(value, int)]
        if numbers and max(numbers) >= len(classes):
            raise DataError(self._mismatch(len(classes), max(numbers) + 1))
        return classes, torch.tensor(labels, dtype=torch.int64)

    def _mismatch(self, names: int, classes: int) -> str:
        return (
            f"evaluator ZeroShot {self.name!r} has {names} class names, but {type(self.source).__name__} has {classes} "
            "classes. Give `classes` one name for each label, in their order."
        )


def class_embeddings(
    model: nn.Module, tokenizer: Any, prompts: Prompts, classes: Sequence[str], replace: Mapping[str, str]
) -> Tensor:
    """The mean of every class's unit prompt embeddings, of unit length.

    Args:
        model: embeds text.
        tokenizer: a Tokenizer.
        prompts: the sentences.
        classes: C names.
        replace: text to replace in the names before they enter the sentences.

    Returns:
        [C, E] float32, equal on all ranks.
    """
    texts = [prompt for group in prompts.apply([_spelled(name, replace) for name in classes]) for prompt in group]
    prompt_CTE = embed_texts(model, tokenizer, texts).unflatten(0, (len(classes), -1))
    return F.normalize(F.normalize(prompt_CTE, dim=-1).mean(dim=1), dim=-1)


def _spelled(name: str, replace: Mapping[str, str]) -> str:
    for old, new in replace.items():
        name = name.replace(old, new)
    return name


def _label(batch: Mapping[str, Any], row: int) -> int | None:
    return int(batch["label"][row]) if "label" in batch else None


def _distinct(values: Sequence[Any]) -> list[str]:
    """The distinct names in order; numbers stand for themselves."""
    numbers = [value for value in values if not isinstance(value, str)]
    return [str(value) for value in range(max(numbers) + 1)] if numbers else sorted(set(values))
