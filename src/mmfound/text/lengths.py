"""Texts that a tokenizer would cut."""

import copy
from collections.abc import Sequence

from mmfound.text.tokenizer import Tokenizer

_ENDLESS = 1 << 20


def token_counts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """Tokens of each text, start and end included, had the tokenizer no context to cut it to."""
    uncut = copy.copy(tokenizer)
    uncut.context = _ENDLESS
    return uncut(texts)["token_mask"].sum(dim=1).tolist() if texts else []


def cut_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """What is said of texts longer than the context, one line each: the count and the text."""
    counts = token_counts(tokenizer, texts)
    return [
        f"{count} tokens, {count - tokenizer.context} more than the context {tokenizer.context}: {text!r:.80}"
        for text, count in zip(texts, counts, strict=True)
        if count > tokenizer.context
    ]
