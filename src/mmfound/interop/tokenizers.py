"""The tokenizer that belongs to somebody's weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmfound.errors import ConfigError
from mmfound.interop.files import Files, is_noised_clip
from mmfound.text.clip_bpe import MERGES, ClipBpe
from mmfound.text.file_tokenizer import Clean, read_tokenizer
from mmfound.text.glide_bpe import glide_bpe
from mmfound.text.tokenizer import Tokenizer

_CLIP = MERGES + 2 * 256 + 2
_VOCABULARIES = ("merges.txt", "bpe_simple_vocab_16e6.txt.gz")
_GPT2 = ("vocab.bpe.gz", "vocab.bpe")


def tokenizer_of(files: Files, text_tower: dict[str, Any]) -> Tokenizer:
    """The tokenizer of weights, from their folder.

    CLIP's vocabulary is the one that every CLIP shares, GLIDE's too, whose table has rows to spare; it is read from
    `merges.txt` or `bpe_simple_vocab_16e6.txt.gz` of the folder, or from the installed open_clip.

    Args:
        files: the weights.
        text_tower: init_args of the text tower.

    Raises:
        ConfigError: when none came along.
    """
    vocab_size, context = int(text_tower["vocab_size"]), int(text_tower["context"])
    text = files.open_clip.get("model_cfg", files.open_clip).get("text_cfg", {})
    if files.open_clip and "hf_tokenizer_name" in text:
        clean: Clean = (text.get("tokenizer_kwargs") or {}).get("clean", "whitespace")
        return _fits(read_tokenizer(files.folder, context, clean), vocab_size, files)
    if files.transformers.get("model_type") == "siglip":
        kind = str(files.json("tokenizer_config.json").get("tokenizer_class", "SiglipTokenizer"))
        is_first = kind.startswith(("Siglip", "T5")) and not kind.startswith("Siglip2")
        return _fits(read_tokenizer(files.folder, context, "punctuation" if is_first else "none"), vocab_size, files)
    if vocab_size != _CLIP and not is_noised_clip(files):
        raise ConfigError(
            f"no tokenizer came along with {files.path}: its text tower has {vocab_size} tokens, and CLIP's vocabulary "
            f"{_CLIP}; name the tokenizer in the recipe"
        )
    merges = next((files.folder / name for name in _VOCABULARIES if (files.folder / name).is_file()), None)
    return ClipBpe(merges, context)


def glide_tokenizer(files: Files, text: Mapping[str, Any], vocabulary: Path | None = None) -> Tokenizer | None:
    """The tokenizer of a stage of GLIDE.

    Args:
        files: the weights.
        text: init_args of the text transformer.
        vocabulary: GPT-2's `vocab.bpe`; by default the one of the weights' folder.

    Returns:
        None where there is no vocabulary.

    Raises:
        ConfigError: when it is another one.
    """
    path = vocabulary or next((files.folder / name for name in _GPT2 if (files.folder / name).is_file()), None)
    if path is None:
        return None
    tokenizer = glide_bpe(path, text["context"])
    if tokenizer.vocab_size != text["vocab_size"]:
        raise ConfigError(
            f"{path} makes {tokenizer.vocab_size} tokens, and {files.path} has {text['vocab_size']}; name the "
            "vocab.bpe that was published with GLIDE, which is GPT-2's"
        )
    return tokenizer


def _fits(tokenizer: Tokenizer, vocab_size: int, files: Files) -> Tokenizer:
    if tokenizer.vocab_size > vocab_size:
        raise ConfigError(
            f"the tokenizer in {files.folder} has {tokenizer.vocab_size} tokens, and the text tower only {vocab_size}; "
            "put the weights' own there"
        )
    return tokenizer
