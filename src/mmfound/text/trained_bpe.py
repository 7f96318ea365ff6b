"""A small tokenizer learned from the recipe's own captions."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer as Bpe
from tokenizers import decoders, models, pre_tokenizers, trainers

from mmfound.errors import ConfigError, DataError
from mmfound.text.packing import checked_context, pack, unpack
from mmfound.text.saved import FILE, read_saved, write_saved
from mmfound.text.tokenizer import TokenBatch, Tokenizer

SPECIAL = ["<pad>", "<start>", "<end>"]
SMALLEST = len(SPECIAL) + 256


class TrainedBpe(Tokenizer):
    """Byte-level BPE over lower-cased text: small, knows every word of its captions, and spells the others in bytes.

    Learned once per run, in `prepare`, and kept as `tokenizer.json` in the run folder.

    Attributes:
        start_id: 1.
        end_id: 2.
        pad_id: 0, only filler; the mask says what is padding.

    Args:
        vocab_size: most ids, at least 259; fewer are used where the captions are few.
        context: most tokens of a text, start and end included.

    Raises:
        ConfigError: when one of them is too small.
    """

    def __init__(self, vocab_size: int, context: int = 77) -> None:
        if vocab_size < SMALLEST:
            raise ConfigError(
                f"TrainedBpe: vocab_size is {vocab_size}; it must be at least {SMALLEST} (bytes, specials)"
            )
        self.vocab_size = vocab_size
        self.context = checked_context(context)
        self.pad_id, self.start_id, self.end_id = range(len(SPECIAL))
        self._bpe: Bpe | None = None
        self._is_given = False

    @classmethod
    def learned(cls, folder: Path) -> "TrainedBpe":
        """The one that was saved in `folder`; it belongs to weights, and learns nothing from another run's captions.

        Raises:
            ConfigError: when there is none.
        """
        saved = read_saved(folder / FILE)
        tokenizer = cls(saved["vocab_size"], saved["context"])
        tokenizer.setup(folder)
        tokenizer._is_given = True
        return tokenizer

    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        """Tokenise texts in one call."""
        encoded = self._model().encode_batch_fast([clean(text) for text in texts], add_special_tokens=False)
        return pack([encoding.ids for encoding in encoded], self.start_id, self.end_id, self.context)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids, lower-case."""
        kept = [i for i in unpack(ids, self.start_id, self.end_id) if i >= len(SPECIAL)]
        return self._model().decode(kept).strip()

    def prepare(self, captions: Callable[[], Iterable[str]], folder: Path) -> None:
        """Learn the vocabulary and write it to `folder`, unless it is there.

        Raises:
            DataError: when there are no captions.
        """
        if self._is_given:
            return None
        if (folder / FILE).exists():
            return self.setup(folder)
        self._bpe = _train((clean(caption) for caption in captions()), self.vocab_size)
        return self.save(folder)

    def setup(self, folder: Path) -> None:
        """Read what `prepare` wrote.

        Raises:
            ConfigError: when it is missing, or was learned under another `vocab_size`.
        """
        if self._is_given:
            return
        saved = read_saved(folder / FILE)
        if (saved["tokenizer"], saved.get("vocab_size")) != ("TrainedBpe", self.vocab_size):
            raise ConfigError(
                f"{folder / FILE} holds {saved['tokenizer']} with vocab_size {saved.get('vocab_size')}, the recipe "
                f"asks for TrainedBpe with {self.vocab_size}: use another run folder, or the old vocab_size"
            )
        self._bpe = _from_json(saved["bpe"], folder / FILE)

    def save(self, folder: Path) -> None:
        """Write `folder/tokenizer.json`."""
        bpe = json.loads(self._model().to_str())
        sizes = {"vocab_size": self.vocab_size, "context": self.context}
        write_saved(folder, {"tokenizer": "TrainedBpe", **sizes, "bpe": bpe})

    def _model(self) -> Bpe:
        if self._bpe is None:
            raise ConfigError(
                f"TrainedBpe(vocab_size={self.vocab_size}) has no vocabulary yet: call prepare(captions, folder) or "
                "setup(folder) first, or read a saved one with mmfound.text.load_tokenizer(folder)"
            )
        return self._bpe


def clean(text: str) -> str:
    """Lower-case with single spaces."""
    return " ".join(text.split()).lower()


def _train(captions: Iterable[str], vocab_size: int) -> Bpe:
    bpe = Bpe(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # a word has the same ids at the start
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    seen = 0

    def counted() -> Iterable[str]:
        nonlocal seen
        for caption in captions:
            seen += 1
            yield caption

    bpe.train_from_iterator(counted(), trainer)
    if not seen:
        raise DataError(
            "TrainedBpe learns from the captions of the training source, and it has none: name one that has"
        )
    description = json.loads(bpe.to_str())
    description["added_tokens"] = []  # "<end>" in a caption is plain text
    return Bpe.from_str(json.dumps(description))


def _from_json(description: dict[str, object], path: Path) -> Bpe:
    try:
        return Bpe.from_str(json.dumps(description))
    except Exception as error:  # tokenizers raises bare Exception
        raise ConfigError(f"{path} is damaged ({error}): restore it, or start in another run folder") from error
