"""Tokenizers as transformers and open_clip load them from a folder."""

import json
from pathlib import Path

from mmfound.text.clip_bpe import END, START, ClipBpe, read_merges, vocabulary
from mmfound.text.file_tokenizer import FileTokenizer


def write_clip_tokenizer(tokenizer: ClipBpe, folder: Path) -> None:
    """CLIP's vocabulary for transformers' CLIPTokenizer."""
    merges = read_merges(tokenizer.vocabulary)
    names = [*vocabulary(merges), START, END]
    ids = {name: number for number, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": tokenizer.context, "do_lower_case": True}
    config |= {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def write_file_tokenizer(tokenizer: FileTokenizer, folder: Path, pad_id: int | None) -> None:
    """A `tokenizer.json` for transformers' AutoTokenizer.

    Args:
        tokenizer: what is written.
        folder: where to.
        pad_id: what texts are filled up with.
    """
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer.model, ensure_ascii=False), encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": tokenizer.context}
    if pad_id is not None:
        config["pad_token"] = tokenizer.token(pad_id)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
