"""Texts that would be cut are told with their whole length, whatever the tokenizer."""

from pathlib import Path

import pytest

from mmfound.text import FileTokenizer, TrainedBpe
from mmfound.text.glide_bpe import glide_bpe
from mmfound.text.lengths import cut_texts, token_counts
from mmfound.text.tokenizer import Tokenizer


def trained(folder: Path) -> TrainedBpe:
    tokenizer = TrainedBpe(300, 8)
    tokenizer.prepare(lambda: ["red"], folder / "bpe")
    return tokenizer


def from_file(folder: Path) -> FileTokenizer:
    (folder / "vocab.bpe").write_text("r e\nre d\n")
    return glide_bpe(folder / "vocab.bpe", 8)


@pytest.mark.parametrize(("make", "around"), [(trained, 2), (from_file, 0)])
def test_a_cut_text_is_counted_whole_and_the_tokenizer_stays_as_it_was(make, around: int, tmp_path: Path):
    tokenizer: Tokenizer = make(tmp_path)
    long = "! " * 30
    [count] = token_counts(tokenizer, [long])
    assert count >= 30 + around
    assert cut_texts(tokenizer, ["!", long]) == [f"{count} tokens, {count - 8} more than the context 8: {long!r:.80}"]
    assert tokenizer([long])["token_mask"].sum() == 8
