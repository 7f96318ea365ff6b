"""A tokenizer that came with somebody's weights."""

import html
import json
import string
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import ftfy
import numpy as np
import torch
from tokenizers import Tokenizer as Model

from mmfound.errors import ConfigError
from mmfound.text.saved import write_saved
from mmfound.text.sentencepiece import read_sentencepiece
from mmfound.text.tokenizer import TokenBatch, Tokenizer

Clean = Literal["none", "lowercase", "whitespace", "lower", "canonicalize", "punctuation"]
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class FileTokenizer(Tokenizer):
    """What `tokenizer.json` of the `tokenizers` library describes, such as SigLIP's SentencePiece.

    Start and end tokens are those that the file puts around a text; a text that is too long keeps them.

    Args:
        model: content of the file.
        context: most tokens of a text, those included.
        clean: what is done to a text first. As open_clip names it: "whitespace" repairs and squeezes, "lower" lowers
            too, "canonicalize" also takes punctuation out. "punctuation" is what transformers does for SigLIP: lower
            case, no punctuation, single spaces. "lowercase": lower case alone. "none": nothing.

    Raises:
        ConfigError: when the content is damaged.
    """

    def __init__(self, model: Mapping[str, Any], context: int, clean: Clean = "none") -> None:
        self.context = context
        self.clean: Clean = clean
        self.model = dict(model)
        self._tokenizer: Model | None = _built(self.model, context)
        self.vocab_size = self._tokenizer.get_vocab_size()

    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        """Tokenise texts in one call."""
        encoded = self._built().encode_batch_fast([_CLEAN[self.clean](text) for text in texts])
        lengths = np.array([len(encoding.ids) for encoding in encoded], dtype=np.int64)
        width = min(self.context, -(-int(lengths.max(initial=8)) // 8) * 8)
        tokens = np.zeros((len(texts), width), dtype=np.int64)
        for row, encoding in zip(tokens, encoded, strict=True):
            row[: len(encoding.ids)] = encoding.ids
        return {"tokens": torch.from_numpy(tokens), "token_mask": torch.from_numpy(np.arange(width) < lengths[:, None])}

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids, without special tokens."""
        return self._built().decode([int(i) for i in ids]).strip()

    def token(self, number: int) -> str | None:
        """The token of an id."""
        return self._built().id_to_token(number)

    def save(self, folder: Path) -> None:
        """Write `folder/tokenizer.json`, as ours."""
        write_saved(
            folder,
            {"tokenizer": "FileTokenizer", "context": self.context, "clean": self.clean, "model": self.model},
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tokenizer": None}

    def _built(self) -> Model:
        if self._tokenizer is None:  # unpickled, in a worker
            self._tokenizer = _built(self.model, self.context)
        return self._tokenizer


def read_tokenizer(folder: Path, context: int, clean: Clean) -> FileTokenizer:
    """The tokenizer of a folder: its `tokenizer.json`, or its SentencePiece model (`spiece.model`).

    Raises:
        ConfigError: when there is none, or it is damaged.
    """
    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            return FileTokenizer(json.loads(path.read_text(encoding="utf-8")), context, clean)
        except ValueError as error:
            raise ConfigError(f"{path} is damaged ({error}); copy or download it again") from error
    for name in ("spiece.model", "tokenizer.model"):
        if (folder / name).is_file():
            return FileTokenizer(read_sentencepiece(folder / name), context, clean)
    raise ConfigError(f"{folder} has no tokenizer (tokenizer.json, spiece.model); put the weights' own there")


def _built(model: Mapping[str, Any], context: int) -> Model:
    try:
        tokenizer = Model.from_str(json.dumps(dict(model)))
    except Exception as error:  # tokenizers raises bare Exception
        raise ConfigError(f"a tokenizer.json is damaged ({error}); copy or download it again") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(context)
    return tokenizer


def _repaired(text: str) -> str:
    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def _squeezed(text: str) -> str:
    return " ".join(text.split())


_CLEAN: dict[Clean, Callable[[str], str]] = {
    "none": lambda text: text,
    "lowercase": str.lower,
    "whitespace": lambda text: _squeezed(_repaired(text)),
    "lower": lambda text: _squeezed(_repaired(text)).lower(),
    "canonicalize": lambda text: _squeezed(_repaired(text).replace("_", " ").translate(_PUNCTUATION).lower()),
    "punctuation": lambda text: _squeezed(text.lower().translate(_PUNCTUATION)),
}
