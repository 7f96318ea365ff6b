"""What the model says about some pictures."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mmfound import distributed
from mmfound.callbacks.caption_grid import Cell, caption_grid
from mmfound.callbacks.evaluations import evaluating, show
from mmfound.data.source import Source
from mmfound.errors import ConfigError
from mmfound.evaluation.abilities import require_abilities, require_tokenizer
from mmfound.evaluation.embedding import device_of, embed_texts, gather_lists, in_step
from mmfound.evaluation.selection import Spread


class BestCaptions(Callback):
    """Shows pictures with the captions that the model finds nearest, at every validation.

    The picture goes to TensorBoard as `samples/best_captions` and to `samples/step_{N}.png` in the run folder. Green
    captions are one of the picture's own, red ones are not; then its own stands below in grey.

    Args:
        source: pictures with captions; the recipe's `val_source` by default.
        images: how many are shown, spread over the source.
        captions: from how many samples, spread over the source, the captions are chosen.
        columns: pictures in a row.
    """

    def __init__(
        self, source: Source | None = None, *, images: int = 12, captions: int = 1000, columns: int = 4
    ) -> None:
        self.source = source
        self.images = images
        self.captions = captions
        self.columns = columns
        self._texts: list[str] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a model that does not embed both sides, before the first step."""
        user = "callback BestCaptions"
        require_abilities(user, pl_module, "embed_image", "embed_text")
        require_tokenizer(user, getattr(trainer, "datamodule", None))
        self._source(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, on the first rank; all embed."""
        if trainer.sanity_checking:
            return
        with evaluating(trainer, pl_module):
            grid = caption_grid(self._cells(trainer, pl_module), self.columns)
        if trainer.is_global_zero:
            show(trainer, "samples/best_captions", "step", grid)

    def _cells(self, trainer: Trainer, task: Any) -> list[Cell]:
        source, data = self._source(trainer), trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        image, own = _embedded_pictures(task, data, Spread(source, self.images))
        if self._texts is None:  # reading them again at every validation can take long
            self._texts = list(dict.fromkeys(Spread(source, self.captions).captions()))
        texts = list(dict.fromkeys([*(text for _, captions in own for text in captions), *self._texts]))
        text = embed_texts(task, data.tokenizer, texts)
        best = (image.double() @ text.double().T).argmax(dim=1).tolist()  # autocast leaves double alone
        return [
            Cell(picture, texts[chosen], texts[chosen] in captions, captions[0] if captions else "")
            for (picture, captions), chosen in zip(own, best, strict=True)
        ]

    def _source(self, trainer: Trainer) -> Source:
        source = self.source or getattr(getattr(trainer, "datamodule", None), "val_source", None)
        if source is None:
            raise ConfigError("callback BestCaptions has no source, and data.init_args.val_source is not set. Set one.")
        return source


def _embedded_pictures(task: Any, data: Any, source: Source) -> tuple[Tensor, list[tuple[np.ndarray, list[str]]]]:
    """Embeddings, pictures and captions of a source over all ranks, the same on all."""
    embedded, own = [], []
    for batch, is_new in in_step(data.eval_batches(source, device_of(task))):
        image = task.embed_image(batch["image"]).float()
        if not is_new:
            continue
        embedded.append(image)
        pixels = (batch["image"] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        own += zip(pixels, batch["captions"], strict=True)
    return distributed.gather_rows(torch.cat(embedded)), gather_lists(own)
