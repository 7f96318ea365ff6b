"""Cross-modal retrieval (Radford et al. 2021, arXiv:2103.00020, section 3.1 and table 13)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from mmfound import distributed
from mmfound.data.source import Source
from mmfound.errors import ConfigError, DataError
from mmfound.evaluation.abilities import require_abilities, require_tokenizer
from mmfound.evaluation.embedding import embed_images, embed_texts, gather_lists
from mmfound.evaluation.evaluator import Evaluator
from mmfound.evaluation.selection import Spread
from mmfound.metrics.retrieval import retrieval_recall


class Retrieval(Evaluator):
    """Finds the captions of a picture among all captions, and the picture of a caption among all pictures.

    Metrics: `image_to_text_r{k}` and `text_to_image_r{k}`, in [0, 1]. All captions of a sample count, as in the COCO
    and Flickr30k protocols: a picture is a hit when any of them is among its k best.

    Args:
        source: pictures with captions.
        name: prefix of the metrics.
        ks: how many of the best count.
        positives: what a caption belongs to: its own picture alone, as is standard ("pair"; captions that are equal
            then tie, and ties count in expectation), or all pictures that have an equal one ("caption", for small
            vocabularies; every distinct caption asks once).
        max_samples: use at most so many, spread over the source.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str = "",
        ks: Sequence[int] = (1, 5, 10),
        positives: Literal["pair", "caption"] = "pair",
        max_samples: int | None = None,
    ) -> None:
        super().__init__(source if max_samples is None else Spread(source, max_samples), name=name)
        self.ks = tuple(ks)
        self.positives = positives
        if not self.ks or min(self.ks) < 1:
            raise ConfigError(f"evaluator Retrieval {name!r}: ks is {list(ks)}; give numbers of 1 or more.")

    def check(self, model: nn.Module, data: Any) -> None:
        """The model embeds both sides, and there is a tokenizer."""
        user = f"evaluator {type(self).__name__}"
        require_abilities(user, model, "embed_image", "embed_text")
        require_tokenizer(user, data)

    def evaluate(self, model: nn.Module, data: Any) -> dict[str, float]:
        """Recall at every k in both directions."""
        self.check(model, data)
        image_nE, batches = embed_images(model, data, self.source)
        image_NE = distributed.gather_rows(image_nE)
        captions = gather_lists([captions for batch in batches for captions in batch["captions"]])
        texts = {text: row for row, text in enumerate(dict.fromkeys(text for group in captions for text in group))}
        if not texts:
            raise DataError(f"evaluator Retrieval: {type(self.source).__name__} has no captions; use one that has.")
        text_UE = embed_texts(model, data.tokenizer, list(texts))
        device = image_NE.device
        text_id_M = torch.tensor([texts[text] for group in captions for text in group], device=device)
        image_M = torch.tensor([row for row, group in enumerate(captions) for _ in group], device=device)
        ids = text_id_M if self.positives == "caption" else None
        recall = retrieval_recall(image_NE, text_UE[text_id_M], image_M, self.ks, ids)
        found = {f"image_to_text_r{k}": value for k, value in recall.image_to_text.items()}
        return found | {f"text_to_image_r{k}": value for k, value in recall.text_to_image.items()}
