"""What every tokenizer offers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from torch import Tensor


class TokenBatch(TypedDict):
    """Token ids of some texts."""

    tokens: Tensor  # [B, L] int64, right-padded; the last real token of every row is the end token
    token_mask: Tensor  # [B, L] bool, True on real tokens


class Tokenizer(ABC):
    """Turns texts into token ids.

    L is the longest text of the call rounded up to a multiple of 8, at most `context`. A text that is too long is cut
    and still ends with the end token. Padding is known by the mask, never by an id.

    Attributes:
        vocab_size: number of ids; an embedding table of this many rows is large enough.
        context: most tokens of a text, start and end tokens included.
    """

    vocab_size: int
    context: int

    @abstractmethod
    def __call__(self, texts: Sequence[str]) -> TokenBatch:
        """Tokenise texts in one call (several times faster than one by one)."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids, without start, end and padding."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what `mmfound.text.load_tokenizer(folder)` needs to make an equal tokenizer."""

    def prepare(self, captions: Callable[[], Iterable[str]], folder: Path) -> None:  # noqa: B027
        """Called before the first use, on one process per machine; tokenizers that learn do so here, once.

        Args:
            captions: gives all captions of the training source when called.
            folder: where the run keeps what was learned; a second start finds it there.
        """

    def setup(self, folder: Path) -> None:  # noqa: B027 - most tokenizers have nothing to load
        """Called on every process after `prepare`, with the same folder."""
