"""A source of colours, a model that embeds them, and the data module between."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound import distributed
from mmfound.batch import RawSample
from mmfound.data.source import Source
from mmfound.text.tokenizer import TokenBatch

COLOURS = ["red", "green", "blue", "cyan", "magenta", "yellow"]
RGB = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]]).float()
WARM = {"red", "magenta", "yellow"}


class Colours(Source):
    """`count` pictures of one colour each, in turn; `wrong` of them are labelled as the next colour."""

    def __init__(self, count: int = 12, *, wrong: int = 0, captions: Sequence[str] = ("a {}",)) -> None:
        self.classes = COLOURS
        self.count, self.wrong, self.templates = count, wrong, captions

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> RawSample:
        label = (index + (index < self.wrong)) % 6
        name = COLOURS[label]
        meta = {"warmth": "warm" if name in WARM else "cold", "number": label}
        captions = [template.format(name) for template in self.templates]
        return {"key": str(index), "label": label, "captions": captions, "meta": meta}


class WordTokenizer:
    """One id per colour word, 6 for all others."""

    vocab_size, context = 7, 8

    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        tokens = torch.full((len(texts), 8), 6)
        for row, text in enumerate(texts):
            for place, word in enumerate(text.split()):
                tokens[row, place] = COLOURS.index(word) if word in COLOURS else 6
        return {"tokens": tokens, "token_mask": torch.ones_like(tokens, dtype=torch.bool)}


class ColourModel(nn.Module):
    """Embeds pictures by mean colour, and texts by the colours they name."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.text_passes = self.image_passes = 0

    def embed_image(self, image: Tensor) -> Tensor:
        self.image_passes += 1
        return F.normalize(image.mean(dim=(2, 3)) * self.scale - 0.5, dim=1)

    def image_features(self, image: Tensor) -> Tensor:
        return 3 * image.mean(dim=(2, 3)) + self.scale

    def embed_text(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        self.text_passes += 1
        table = torch.cat([RGB - 0.5, torch.zeros(1, 3)])
        return F.normalize(table[tokens].sum(dim=1), dim=1)


class FakeData:
    """eval_batches as ImageTextData has them."""

    def __init__(self, batch_size: int = 4) -> None:
        self.tokenizer: Any = WordTokenizer()
        self.batch_size = batch_size

    def eval_batches(self, source: Source, device: Any, batch_size: int | None = None) -> Iterator[dict[str, Any]]:
        indices = range(distributed.rank(), len(source), distributed.world_size())
        for start in range(0, len(indices), self.batch_size):
            samples = [(i, dict[str, Any](source[i])) for i in indices[start : start + self.batch_size]]
            yield {
                "key": [sample["key"] for _, sample in samples],
                "index": torch.tensor([index for index, _ in samples]),
                "image": torch.stack([RGB[index % 6].view(3, 1, 1).expand(3, 4, 4) for index, _ in samples]),
                "label": torch.tensor([sample["label"] for _, sample in samples]),
                "captions": [sample["captions"] for _, sample in samples],
                "meta": [sample["meta"] for _, sample in samples],
            }
