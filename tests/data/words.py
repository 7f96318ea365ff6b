"""A tokenizer for tests of the data layer."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from mmfound.text.tokenizer import TokenBatch, Tokenizer


class Lengths(Tokenizer):
    """A token per character, its code; remembers how often it was called and what it was prepared with."""

    vocab_size, context = 256, 64

    def __init__(self) -> None:
        self.calls = 0
        self.prepared: list[str] = []
        self.folder: Path | None = None

    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        self.calls += 1
        longest = max(map(len, texts))
        tokens = torch.zeros(len(texts), longest, dtype=torch.int64)
        mask = torch.zeros(len(texts), longest, dtype=torch.bool)
        for row, text in enumerate(texts):
            tokens[row, : len(text)] = torch.tensor(list(text.encode()))
            mask[row, : len(text)] = True
        return {"tokens": tokens, "token_mask": mask}

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode()

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    def prepare(self, captions: Callable[[], Iterable[str]], folder: Path) -> None:
        self.prepared = list(captions())

    def setup(self, folder: Path) -> None:
        self.folder = folder
