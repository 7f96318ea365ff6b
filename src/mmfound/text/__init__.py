"""Tokenizers behind one protocol, and prompt templates."""

from mmfound.text.tokenizer import Tokenizer, TokenBatch

__all__ = ["TokenBatch", "Tokenizer"]
