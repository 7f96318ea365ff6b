"""GLIDE's tokenizer: GPT-2's byte-pair encoding of lower-cased text, without start and end tokens."""

import gzip
import json
from pathlib import Path

from tokenizers import Tokenizer as Bpe
from tokenizers import decoders, models, pre_tokenizers

from mmfound.errors import ConfigError
from mmfound.text.clip_bpe import byte_symbols
from mmfound.text.file_tokenizer import FileTokenizer

END = "<|endoftext|>"  # has the last id, and stands in no text


def glide_bpe(merges: Path | str, context: int = 128) -> FileTokenizer:
    """Ids equal to those that the released weights were trained with.

    Args:
        merges: GPT-2's `vocab.bpe` (elsewhere `merges.txt`), packed with gzip or not: a merge on each line, in order.
        context: most tokens of a text.

    Raises:
        ConfigError: when it cannot be read, or holds something else.
    """
    path = Path(merges)
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except (OSError, EOFError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as GPT-2's vocab.bpe ({error}); name another file") from error
    lines = [line for line in text.split("\n") if line and not line.startswith("#version")]
    pairs = [tuple(line.split(" ")) for line in lines]
    symbols = [*byte_symbols(), *("".join(pair) for pair in pairs), END]
    vocab = {symbol: number for number, symbol in enumerate(symbols)}
    if not pairs or any(len(pair) != 2 for pair in pairs) or len(vocab) < len(symbols):
        raise ConfigError(f"{path} is no vocab.bpe: it should have two symbols on each line; name another file")
    try:
        bpe = Bpe(models.BPE(vocab=vocab, merges=pairs))  # pyright: ignore[reportArgumentType]
    except Exception as error:  # tokenizers raises bare Exception
        raise ConfigError(f"{path} is no vocab.bpe ({error}); name another file") from error
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    return FileTokenizer(json.loads(bpe.to_str()), context, "lowercase")
