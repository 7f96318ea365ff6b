"""Pictures to scores of classes, by whatever means a model has.

Shape letters: B pictures, C classes, E joint embedding width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmfound.errors import DataError
from mmfound.evaluation.abilities import require_abilities, require_tokenizer
from mmfound.evaluation.zero_shot import class_embeddings
from mmfound.text.prompts import Prompts

Scorer = Callable[[Tensor], Tensor]


def check_scores(user: str, model: nn.Module, data: Any) -> None:
    """Refuse a model that neither classifies nor embeds both sides.

    Raises:
        ConfigError: naming the user and what is missing.
    """
    if not _classifies(model):
        require_abilities(user, model, "embed_image", "embed_text")
        require_tokenizer(user, data)


def scorer_of(
    user: str, model: Any, data: Any, prompts: Prompts, classes: Sequence[str], replace: Mapping[str, str]
) -> Scorer:
    """A function from [B, 3, H, W] pictures in [0, 1] to [B, C] float32 scores.

    A model that classifies gives its logits; any other the similarities to the prompts of the classes.

    Args:
        user: what asks, as it is called in the recipe.
        model: the task.
        data: has the tokenizer.
        prompts: sentences about classes.
        classes: C names, as they enter the prompts.
        replace: text to replace in them.
    """
    if _classifies(model):

        def by_head(image: Tensor) -> Tensor:
            logits_BC = model.classify(image).float()
            if logits_BC.shape[1] != len(classes):
                raise DataError(
                    f"{user}: the model scores {logits_BC.shape[1]} classes, but its source has {len(classes)}. Take "
                    "the source it was trained on, or another split of it."
                )
            return logits_BC

        return by_head
    class_CE = class_embeddings(model, data.tokenizer, prompts, classes, replace)

    def by_prompts(image: Tensor) -> Tensor:
        image_BE = model.embed_image(image).float()
        with torch.autocast(image_BE.device.type, enabled=False):
            return image_BE @ class_CE.T

    return by_prompts


def _classifies(model: nn.Module) -> bool:
    return callable(getattr(model, "classify", None))
