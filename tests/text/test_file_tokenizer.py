"""Tokenizers that come with weights: same ids as transformers and open_clip from the same folder."""

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Model
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from mmfound.errors import ConfigError
from mmfound.text import FileTokenizer, load_tokenizer
from mmfound.text.file_tokenizer import read_tokenizer
from mmfound.text.sentencepiece import read_sentencepiece

CAPTIONS = ["A photo of two_red cats, on a mat!", "a  blue   box's lid", "", "Ünïcode & snow", "cat " * 30]
CORPUS = ["a photo of a cat", "two red cats on a mat", "a blue box", "the lid of a box", "snow on the photo"] * 5


def unigram() -> Model:
    """A small SentencePiece-like model, as SigLIP's fast tokenizer."""
    return Model.from_str(_trained())


@cache  # training is not deterministic
def _trained() -> str:
    model = Model(models.Unigram())
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False)
    model.train_from_iterator(CORPUS, trainer)
    model.normalizer = normalizers.Sequence([normalizers.Strip()])
    end = [("</s>", 1)]
    model.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=end)
    model.decoder = decoders.Metaspace()
    return model.to_str()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    unigram().save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "</s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize("clean", ["whitespace", "lower", "canonicalize"])
def test_ids_are_those_of_open_clip(folder: Path, clean: Any):
    open_clip = pytest.importorskip("open_clip")
    pytest.importorskip("transformers")
    theirs = open_clip.tokenizer.HFTokenizer(str(folder), context_length=16, clean=clean)(CAPTIONS)
    ours = read_tokenizer(folder, 16, clean)(CAPTIONS)
    assert len({tuple(row) for row in theirs.tolist()}) == len(CAPTIONS)
    assert torch.equal(ours["tokens"].masked_fill(~ours["token_mask"], 1), theirs)
    assert (ours["tokens"].gather(1, ours["token_mask"].sum(dim=1, keepdim=True) - 1) == 1).all(), "end with </s>"


def test_siglip_s_cleaning_is_that_of_transformers():
    """`canonicalize_text` of transformers' SiglipTokenizer, whose package sentencepiece need not be there."""
    source = "'Hello,  World!'\tone_two"
    tokenizer = FileTokenizer(json.loads(unigram().to_str()), 16, "punctuation")
    assert torch.equal(tokenizer([source])["tokens"], tokenizer(["hello world onetwo"])["tokens"])


def test_a_saved_one_comes_back_and_travels_to_workers(folder: Path, tmp_path: Path):
    tokenizer = read_tokenizer(folder, 16, "canonicalize")
    tokenizer.save(tmp_path / "saved")
    for again in (load_tokenizer(tmp_path / "saved"), pickle.loads(pickle.dumps(tokenizer))):
        torch.testing.assert_close(again(CAPTIONS), tokenizer(CAPTIONS))
        assert (again.context, again.vocab_size) == (16, tokenizer.vocab_size)
    assert tokenizer.decode(tokenizer(["two red cats"])["tokens"][0].tolist()).startswith("two red cats")


def test_batches_are_trimmed(folder: Path):
    assert read_tokenizer(folder, 64, "none")(["a cat"])["tokens"].shape == (1, 8)


def spiece(path: Path, model: dict[str, Any], kind: int = 1) -> None:
    """The same model as a file of SentencePiece's, written by its own protocol."""
    proto = pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new").ModelProto()
    kinds = {"<pad>": 3, "</s>": 3, "<unk>": 2}
    for piece, score in model["model"]["vocab"]:
        proto.pieces.add(piece=piece, score=score, type=kinds.get(piece, 1))
    proto.trainer_spec.model_type = kind
    proto.trainer_spec.unk_id = 2
    proto.normalizer_spec.name = "nmt_nfkc"
    path.write_bytes(proto.SerializeToString())


def test_a_sentencepiece_file_gives_the_ids_of_transformers_converter(tmp_path: Path):
    pytest.importorskip("google.protobuf")
    convert = pytest.importorskip("transformers.convert_slow_tokenizer")
    spiece(tmp_path / "spiece.model", json.loads(unigram().to_str()))

    class Slow:
        vocab_file = str(tmp_path / "spiece.model")
        _extra_ids = 0
        legacy = True
        add_prefix_space = True

        def convert_tokens_to_ids(self, token: str) -> int:
            return {"</s>": 1}[token]

    theirs = convert.T5Converter(Slow()).converted()
    ours = read_tokenizer(tmp_path, 77, "none")
    for caption in CAPTIONS[:4]:
        batch = ours([caption])
        assert batch["tokens"][batch["token_mask"]].tolist() == theirs.encode(caption).ids


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_damaged_sentencepiece_files_are_named(tmp_path: Path, share: float):
    path = tmp_path / "spiece.model"
    spiece(path, json.loads(unigram().to_str()))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ConfigError, match=r"spiece\.model"):
        read_sentencepiece(path)


def test_other_kinds_of_sentencepiece_are_refused(tmp_path: Path):
    spiece(tmp_path / "spiece.model", json.loads(unigram().to_str()), kind=2)
    with pytest.raises(ConfigError, match="is no unigram model"):
        read_tokenizer(tmp_path, 16, "none")


def test_missing_and_damaged_ones_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="has no tokenizer"):
        read_tokenizer(tmp_path, 16, "none")
    for content in ("{", "{}"):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(ConfigError, match="damaged"):
            read_tokenizer(tmp_path, 16, "none")
