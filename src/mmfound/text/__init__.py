"""Tokenizers behind one protocol, and prompt templates."""

from mmfound.text.clip_bpe import ClipBpe
from mmfound.text.file_tokenizer import FileTokenizer
from mmfound.text.loading import load_tokenizer
from mmfound.text.prompts import Prompts
from mmfound.text.tokenizer import TokenBatch, Tokenizer
from mmfound.text.trained_bpe import TrainedBpe

__all__ = ["ClipBpe", "FileTokenizer", "Prompts", "TokenBatch", "Tokenizer", "TrainedBpe", "load_tokenizer"]
