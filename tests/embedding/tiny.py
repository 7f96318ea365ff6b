"""A tiny export, pictures and embeddings of them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmfound.embedding.job import Job
from mmfound.embedding.running import embed
from mmfound.encoders import load_encoder
from mmfound.models import Cbow, ConvTower, DualEncoder
from mmfound.text import TrainedBpe
from mmfound.weights import export

CONFIG: dict[str, Any] = {
    "class_path": "mmfound.models.DualEncoder",
    "init_args": {
        "image_tower": {"class_path": "mmfound.models.ConvTower", "init_args": {"width": 4, "embed_dim": 8}},
        "text_tower": {
            "class_path": "mmfound.models.Cbow",
            "init_args": {"vocab_size": 300, "width": 8, "embed_dim": 8},
        },
    },
}


def tiny_export(folder: Path, *, seed: int = 0, tokenizer: bool = True) -> str:
    """A dual encoder with random weights and a tokenizer."""
    torch.manual_seed(seed)
    encoder = DualEncoder(ConvTower(width=4, embed_dim=8), Cbow(vocab_size=300, width=8, embed_dim=8))
    bpe = TrainedBpe(300, 16)
    bpe.prepare(lambda: ["a red square", "a blue circle"], folder.parent / f"{folder.name}.bpe")
    export(encoder, CONFIG, folder, tokenizer=bpe if tokenizer else None, image={"size": 16})
    return str(folder)


def photos(folder: Path, count: int = 10) -> str:
    """`count` pictures of noise in two folders."""
    for index in range(count):
        path = folder / "ab"[index % 2] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (20, 24, 3), np.uint8)).save(path)
    return str(folder)


def embedded(source: Any, weights: str, path: Path, *, part_size: int = 4, **options: Any) -> dict[str, Any] | None:
    """Embed with batches of 3."""
    chosen = {name: options.pop(name) for name in ("side", "dtype") if name in options}
    job = Job(load_encoder(weights), weights, source, "somewhere", part_size=part_size, **chosen)
    return embed(job, path, batch_size=3, workers=0, **options)
