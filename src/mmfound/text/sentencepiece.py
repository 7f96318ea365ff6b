"""SentencePiece's unigram models as the `tokenizers` library describes them.

The file is a protocol buffer (sentencepiece_model.proto) of which a few fields are needed; reading them takes fewer
lines than the library takes dependencies, and its ids are those of `tokenizers`, which runs the model.
"""

import base64
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmfound.errors import ConfigError

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3  # of ModelProto
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = range(1, 5)  # SentencePiece.Type
_UNIGRAM = 1  # TrainerSpec.ModelType
_SPACE = "\u2581"


def read_sentencepiece(path: Path) -> dict[str, Any]:
    """What a `tokenizer.json` of the same model says, with the end token behind every text.

    Raises:
        ConfigError: when the file is damaged, or no unigram model.
    """
    try:
        return _described(path.read_bytes(), path)
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise ConfigError(f"{path} cannot be read as a SentencePiece model ({error}); copy it again") from error


def _described(data: bytes, path: Path) -> dict[str, Any]:
    fields = list(_fields(data))
    pieces = [_piece(value) for number, value in fields if number == _PIECES]
    trainer = dict(_fields(next(value for number, value in fields if number == _TRAINER)))
    normalizer = dict(_fields(next((value for number, value in fields if number == _NORMALIZER), b"")))
    if not pieces or trainer.get(3, _UNIGRAM) != _UNIGRAM:
        raise ConfigError(f"{path} is no unigram model; put the tokenizer.json of the weights there")
    names = [name for name, _, _ in pieces]
    unknown = next(place for place, (_, _, kind) in enumerate(pieces) if kind == _UNKNOWN)
    end = names.index("</s>")
    special = [place for place, (_, _, kind) in enumerate(pieces) if kind in (_CONTROL, _USER_DEFINED)]
    charsmap = normalizer.get(2, b"")
    mapped = [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()}] if charsmap else []
    steps: list[dict[str, Any]] = [
        *mapped,
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ]
    return {
        "version": "1.0",
        "added_tokens": [_added(place, names[place], pieces[place][2] != _USER_DEFINED) for place in special],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [end], "tokens": ["</s>"]}},
        },
        "decoder": {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "always", "split": True},
        "model": {
            "type": "Unigram",
            "unk_id": unknown,
            "vocab": [[name, score] for name, score, _ in pieces],
            "byte_fallback": bool(trainer.get(35, 0)),
        },
    }


def _piece(data: bytes) -> tuple[str, float, int]:
    fields = dict(_fields(data))
    return fields[1].decode("utf-8"), struct.unpack("<f", fields.get(2, b"\0\0\0\0"))[0], fields.get(3, _NORMAL)


def _added(place: int, name: str, special: bool) -> dict[str, Any]:
    stripped = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": place, "content": name, **stripped, "special": special}


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protocol buffer message: ints, or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
        else:
            length, at = (8, at) if wire == 1 else (4, at) if wire == 5 else _varint(data, at)
            value, at = data[at : at + length], at + length
        if wire not in (0, 1, 2, 5) or at > len(data):
            raise ValueError(f"it ends within a field, or has one of the unknown kind {wire}")
        yield tag >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
