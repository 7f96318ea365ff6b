"""CLIP's tokenizer: byte-pair encoding of lower-cased words that end in `</w>` (arXiv:2103.00020, section 2.4)."""

import gzip
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ftfy
from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Bpe

from mmfound.errors import ConfigError
from mmfound.text.installed import open_clip_file
from mmfound.text.packing import checked_context, pack, unpack
from mmfound.text.saved import read_saved, write_saved
from mmfound.text.tokenizer import TokenBatch, Tokenizer

MERGES = 48_894
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = r"'(?i:s|t|re|ve|m|ll|d)|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

# OpenAI's pattern sees a special string only where a word can begin: after a letter, a number or a space.
_SPECIAL_RUN = re.compile(rf"((?:^|(?<=[^\W_])|(?<=\s))(?:{re.escape(START)}|{re.escape(END)})+)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")  # edited by ftfy even in ASCII


class ClipBpe(Tokenizer):
    """Ids equal to OpenAI's `SimpleTokenizer`, several times faster.

    Departs from it in one point: the strings `<|startoftext|>` and `<|endoftext|>` inside a caption are plain text,
    lest a caption end itself early.

    Attributes:
        start_id: 49406.
        end_id: 49407.
        pad_id: 0, only filler; the mask says what is padding.

    Args:
        vocabulary: CLIP's `bpe_simple_vocab_16e6.txt.gz` (or unpacked), or a saved `tokenizer.json`; by default that of
            the installed open_clip.
        context: most tokens of a text, start and end included.
        exact: read those two strings as start and end token, as OpenAI does.

    Raises:
        ConfigError: when the vocabulary is missing or another one.
    """

    def __init__(self, vocabulary: Path | None = None, context: int = 77, *, exact: bool = False) -> None:
        self.vocab_size = MERGES + 2 * 256 + 2
        self.context = checked_context(context)
        self.exact = exact
        self.start_id, self.end_id, self.pad_id = self.vocab_size - 2, self.vocab_size - 1, 0
        self.vocabulary = _vocabulary_file(vocabulary)
        self._bpe: Bpe | None = _build(read_merges(self.vocabulary))

    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        """Tokenise texts in one call."""
        return pack(self.ids(texts), self.start_id, self.end_id, self.context)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of whole texts, without start and end."""
        cleaned = [clean(text) for text in texts]
        if self.exact and any(START in text or END in text for text in cleaned):
            return [self._exact_ids(text) for text in cleaned]
        return self._plain_ids(cleaned)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids, lower-case, a space after every word."""
        kept = [i for i in unpack(ids, self.start_id, self.end_id) if 0 <= i < self.start_id]
        return self._model().decode(kept).replace("</w>", " ").strip()

    def save(self, folder: Path) -> None:
        """Write `folder/tokenizer.json`, the vocabulary included."""
        merges = [" ".join(pair) for pair in read_merges(self.vocabulary)]
        write_saved(folder, {"tokenizer": "ClipBpe", "context": self.context, "exact": self.exact, "merges": merges})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bpe": None}  # rebuilding takes 0.2 s, as long as unpickling its 2 MB

    def _model(self) -> Bpe:
        if self._bpe is None:
            self._bpe = _build(read_merges(self.vocabulary))
        return self._bpe

    def _plain_ids(self, cleaned: Sequence[str]) -> list[list[int]]:
        encoded = self._model().encode_batch_fast(list(cleaned), add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def _exact_ids(self, cleaned: str) -> list[int]:
        ids: list[int] = []
        for place, piece in enumerate(_SPECIAL_RUN.split(cleaned)):
            if place % 2:
                ids += [self.start_id if name == START else self.end_id for name in re.findall(r"<\|\w+\|>", piece)]
            else:
                ids += self._plain_ids([piece])[0]
        return ids


def clean(text: str) -> str:
    """Repair encoding, resolve HTML entities, squeeze spaces, lower-case: what OpenAI's tokenizer does first."""
    if not text.isascii() or "&" in text or _CONTROL.search(text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def read_merges(path: Path) -> list[tuple[str, str]]:
    """CLIP's 48,894 merges in order.

    Raises:
        ConfigError: when the file holds anything else.
    """
    try:
        if path.suffix == ".json":
            lines = read_saved(path)["merges"]
        else:
            raw = path.read_bytes()
            lines = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8").split("\n")[1 : MERGES + 1]
        merges = [tuple(line.split()) for line in lines]
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise ConfigError(f"{path} cannot be read as CLIP's vocabulary ({error})") from error
    if len(merges) != MERGES or any(len(pair) != 2 for pair in merges):
        raise ConfigError(f"{path} is not CLIP's vocabulary: it must hold {MERGES} merges of two symbols each")
    return merges  # pyright: ignore[reportReturnType]


def _vocabulary_file(vocabulary: Path | None) -> Path:
    if vocabulary is None:
        name = "bpe_simple_vocab_16e6.txt.gz"
        return open_clip_file(name, "give its path: ClipBpe(vocabulary=...) in Python, vocabulary: PATH in a recipe")
    if not Path(vocabulary).is_file():
        raise ConfigError(f"ClipBpe: no file {vocabulary}; it should be CLIP's bpe_simple_vocab_16e6.txt.gz")
    return Path(vocabulary).resolve()  # workers may start elsewhere


def vocabulary(merges: list[tuple[str, str]]) -> list[str]:
    """The symbols in the order of their ids, without start and end."""
    symbols = byte_symbols()
    return symbols + [f"{symbol}</w>" for symbol in symbols] + [first + second for first, second in merges]


def _build(merges: list[tuple[str, str]]) -> Bpe:
    vocab = {name: number for number, name in enumerate(vocabulary(merges))}
    bpe = Bpe(models.BPE(vocab=vocab, merges=merges, end_of_word_suffix="</w>"))
    words = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([words, as_bytes])
    bpe.decoder = decoders.ByteLevel()
    return bpe


def byte_symbols() -> list[str]:
    """A printable character for each of the 256 bytes, in the order of CLIP's ids."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(others))]
