"""Filling in on Shapes: is there what the prompt names, and is the rest as it was?

Shape letters: B samples, S side.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmfound.data.sources.shapes import Shapes
from mmfound.data.sources.shapes_holes import Refilled, known
from mmfound.evaluation.attribute_score import AttributeScore
from mmfound.evaluation.embedding import gather_lists


class InpaintScore(AttributeScore):
    """The score of `AttributeScore` where one object of a true picture is hidden and drawn anew.

    What is hidden is a circle around the object and `margin` pixels more, which says nothing of its shape. Half of the
    prompts name another object than the one that was there (`mmfound.data.sources.shapes_holes.Refilled`). Metrics are
    those of `AttributeScore`, and `known_error`: the largest difference of a pixel that was known, in steps of 1/255.

    In the table `score`, `true` is the picture as it was: what a model gets that ignores the prompt and restores it.

    Args:
        seen: pictures of combinations that were trained on.
        unseen: of held-out combinations, which the prompts name as well.
        name: prefix of the metrics.
        replaced: share of the prompts that name another object.
        margin: in pixels.
        options: of `AttributeScore`.
    """

    added = ("known_image", "mask")

    def __init__(
        self,
        seen: Shapes,
        unseen: Shapes | None = None,
        *,
        name: str = "inpaint",
        replaced: float = 0.5,
        margin: float = 2.0,
        **options: Any,
    ) -> None:
        held_out = None if unseen is None else Refilled(unseen, replaced)
        super().__init__(Refilled(seen, replaced), held_out, name=name, **options)
        self.margin = margin
        self._errors: list[float] = []

    def sample(self, model: Any, batch: Mapping[str, Any]) -> Tensor:
        """As they are drawn into the holes."""
        image = batch["image"].float()
        mask = known([meta["hole"] for meta in batch["meta"]], image.shape[-1], self.margin).to(image.device)
        drawn = super().sample(model, {**batch, "known_image": image, "mask": mask})
        steps = (drawn.float().clamp(0, 1) * 255).round() - (image * 255).round()
        self._errors.append(float((steps * mask).abs().max()))
        return drawn

    def evaluate(self, model: Any, data: Any) -> dict[str, float]:
        """Draw, fit, compare."""
        self._errors = []
        metrics = super().evaluate(model, data)
        return metrics | {"known_error": max(gather_lists(self._errors))}
