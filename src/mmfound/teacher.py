"""A frozen dual encoder that another one learns from.

Shape letters: B pairs, L text length, E the teacher's embedding width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmfound.batch import chunks_of, image_float
from mmfound.encoders import load_encoder
from mmfound.errors import ConfigError
from mmfound.models import DualEncoder
from mmfound.text.saved import content_of
from mmfound.text.tokenizer import Tokenizer


class Teacher:
    """Embeds the batches of its student, without gradients.

    No module, and so no part of the student's checkpoints, averages, optimiser or sharding: every rank has it whole,
    and a run that goes on reads it from its folder again. It owns its pixel normalisation; pictures of another size are
    resized for it on the device.

    Args:
        weights: what `mmfound.encoders.load_encoder` takes, such as an export.
    """

    def __init__(self, weights: Path | str) -> None:
        loaded = load_encoder(weights)
        self.weights = str(weights)
        self.encoder: DualEncoder = loaded.encoder
        self.tokenizer: Tokenizer | None = loaded.tokenizer
        self.size = loaded.picture.size

    @property
    def logit_scale(self) -> Tensor:
        """[1] factor on the similarities."""
        return self.encoder.logit_scale.detach().exp()

    @torch.no_grad()
    def embed(self, batch: Mapping[str, Any], chunk_size: int | None = None) -> tuple[Tensor, Tensor]:
        """Both embeddings of each pair, [B, E], of unit length.

        Args:
            batch: pictures may be uint8, and become float32 in [0, 1] chunk by chunk.
            chunk_size: samples embedded at a time; all by default.
        """
        self._follow(batch["image"].device)
        parts = [self._pair(image_float(chunk)) for chunk in chunks_of(batch, chunk_size or len(batch["key"]))]
        image, text = (torch.cat(part) for part in zip(*parts, strict=True))
        return image, text

    def check_tokenizer(self, tokenizer: Tokenizer | None) -> None:
        """Refuse another tokenizer than that of the weights, where they came with one.

        Raises:
            ConfigError: when its ids may mean something else to the teacher.
        """
        if tokenizer is None or self.tokenizer is None:
            return
        theirs, ours = content_of(self.tokenizer), content_of(tokenizer)
        odd = [name for name in {**theirs, **ours} if name != "context" and theirs.get(name) != ours.get(name)]
        if odd:
            raise ConfigError(
                f"the teacher {self.weights} has another tokenizer ({theirs['tokenizer']}) than the data "
                f"({ours['tokenizer']}): they differ in {odd[0]}, and its ids would mean other words to it. Set "
                f"data.init_args.tokenizer to mmfound.encoders.tokenizer_of with weights {self.weights}."
            )

    def _pair(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        image = batch["image"]
        if image.shape[-2:] != (self.size, self.size):
            image = F.interpolate(image, (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
        return self.encoder.embed_image(image), self.encoder.embed_text(batch["tokens"], batch["token_mask"])

    def _follow(self, device: torch.device) -> None:
        if self.encoder.logit_scale.device != device:
            self.encoder.to(device)
