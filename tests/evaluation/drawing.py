"""Stand-ins for models that draw shapes."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmfound.data import Resize, Shapes
from mmfound.data.datamodule import ImageTextData
from mmfound.data.sources.shapes_prompt import asked
from mmfound.data.sources.shapes_render import render
from mmfound.data.sources.shapes_scene import Item, Scene
from mmfound.evaluation.prompted import OWN
from mmfound.text.tokenizer import TokenBatch

PLACES = {"top": 0.19, "middle": 0.5, "bottom": 0.81, "left": 0.19, "right": 0.81}


class Bytes:
    """A caption's own characters as its tokens, so that a stand-in can read its prompt."""

    vocab_size, context = 128, 120

    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        tokens = torch.zeros(len(texts), 120, dtype=torch.int64)
        for row, text in enumerate(texts):
            tokens[row, : len(text)] = torch.tensor([ord(letter) for letter in text])
        return {"tokens": tokens, "token_mask": tokens > 0}


class Draws(nn.Module):
    """Draws exactly what its prompt asks for; or, with `peeks`, what the sample's own prompt does; or noise."""

    def __init__(self, kind: str = "obeys") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.kind = kind
        self.seen: list[int] = []

    def sample_images(self, batch: Mapping[str, Any], indices: Sequence[int], seed: int) -> Tensor:
        self.seen += indices
        if self.kind == "noise":
            return torch.rand(len(indices), 3, 32, 32)
        assert "image" not in batch
        texts = ["".join(chr(token) for token in row if token) for row in batch["tokens"].tolist()]
        assert batch["prompt"] == texts
        if self.kind == "peeks":
            texts = [meta[OWN] for meta in batch["meta"]]
        return torch.stack([picture(text, 7 * index) for text, index in zip(texts, indices, strict=True)])


def picture(prompt: str, number: int) -> Tensor:
    """What a single-object prompt asks for, with what it leaves open chosen by the number."""
    [item] = asked(prompt).items
    words = (item.place or "centre").replace("centre", "middle middle").split()
    size = item.size or ("small", "medium", "large")[number % 3]
    centre = [PLACES[words[1]], PLACES[words[0]]]
    x, y = (min(max(at, 0.26), 0.74) if size == "large" else at for at in centre)
    scene = Scene((Item(item.colour, item.shape, size, x, y),), 240 if number % 2 else 200)
    return torch.from_numpy(render(scene, 32)).permute(2, 0, 1).float() / 255


def data(source: Shapes) -> ImageTextData:
    size = source.size
    return ImageTextData(
        source, 16, tokenizer=cast(Any, Bytes()), train_image=Resize(size), eval_image=Resize(size), workers=0, seed=0
    )


def shapes(split: Any = "val", **kind: Any) -> Shapes:
    styles = ("relation", "terse", "descriptive", "sized")
    return Shapes(64, 32, **{"split": split, "objects": (1, 1), "styles": styles, **kind})
