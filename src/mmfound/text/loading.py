"""Tokenizers back from the folder they were saved in."""

from pathlib import Path

from mmfound.text.clip_bpe import ClipBpe
from mmfound.text.file_tokenizer import FileTokenizer
from mmfound.text.saved import FILE, read_saved
from mmfound.text.tokenizer import Tokenizer
from mmfound.text.trained_bpe import TrainedBpe


def load_tokenizer(folder: Path) -> Tokenizer:
    """A tokenizer equal to the one whose `save(folder)` wrote `tokenizer.json`; runs no code from there.

    Raises:
        ConfigError: when the file is missing, damaged or of an unknown kind.
    """
    path = Path(folder) / FILE
    saved = read_saved(path)
    if saved["tokenizer"] == "ClipBpe":
        return ClipBpe(path, saved["context"], exact=saved["exact"])
    if saved["tokenizer"] == "FileTokenizer":
        return FileTokenizer(saved["model"], saved["context"], saved["clean"])
    return TrainedBpe.learned(path.parent)
