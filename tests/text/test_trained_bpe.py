"""TrainedBpe: learned once per run, deterministic, complete over bytes."""

import pickle
from pathlib import Path

import pytest
import torch

from mmfound.errors import ConfigError, DataError
from mmfound.text import TrainedBpe, load_tokenizer

CAPTIONS = [f"a {colour} {shape}" for colour in ("red", "green", "Blue") for shape in ("circle", "square", "star")] * 3


def trained(folder: Path, vocab_size: int = 320, context: int = 16) -> TrainedBpe:
    tokenizer = TrainedBpe(vocab_size, context)
    tokenizer.prepare(lambda: CAPTIONS, folder)
    return tokenizer


def test_learned_words_are_one_token_each_wherever_they_stand(tmp_path: Path):
    tokenizer = trained(tmp_path)
    batch = tokenizer(["red circle", "a RED  circle", "circle"])
    assert batch["token_mask"].sum(1).tolist() == [4, 5, 3]
    red, circle = batch["tokens"][0, 1:3].tolist()
    assert batch["tokens"][1, 2:4].tolist() == [red, circle]
    assert batch["tokens"][2, 1].item() == circle
    assert batch["tokens"].shape == (3, 8)


def test_ids_stay_below_vocab_size_and_every_text_comes_back(tmp_path: Path):
    tokenizer = trained(tmp_path, context=64)
    texts = ["a purple <end> zebra", "\u732b caf\u00e9 \U0001f408", "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"]
    batch = tokenizer(texts)
    assert batch["tokens"].max() < tokenizer.vocab_size == 320
    assert [tokenizer.decode(row.tolist()) for row in batch["tokens"]] == texts


def test_special_ids_never_come_from_text(tmp_path: Path):
    tokenizer = trained(tmp_path)
    row = tokenizer(["<pad><start> <end>"])["tokens"][0]
    assert (row == tokenizer.end_id).sum() == 1
    assert (row == tokenizer.start_id).sum() == 1


def test_long_text_is_cut_and_still_ends(tmp_path: Path):
    batch = trained(tmp_path, context=13)(["red " * 50, "red"])
    assert batch["tokens"].shape == (2, 13)
    assert batch["tokens"][0, -1] == 2
    assert batch["token_mask"].sum(1).tolist() == [13, 3]


def test_training_is_a_function_of_the_captions_alone(tmp_path: Path):
    trained(tmp_path / "a")
    TrainedBpe(320, 16).prepare(lambda: reversed(CAPTIONS), tmp_path / "b")
    first, second = (tmp_path / name / "tokenizer.json" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_second_start_takes_what_was_learned(tmp_path: Path):
    first = trained(tmp_path)
    again = TrainedBpe(320, 16)
    again.prepare(lambda: pytest.fail("captions were read again"), tmp_path)
    other_process = TrainedBpe(320, 16)
    other_process.setup(tmp_path)
    for tokenizer in (again, other_process, load_tokenizer(tmp_path), pickle.loads(pickle.dumps(first))):
        torch.testing.assert_close(tokenizer(CAPTIONS)["tokens"], first(CAPTIONS)["tokens"])


def test_saved_copy_is_equal(tmp_path: Path):
    trained(tmp_path / "run").save(tmp_path / "export")
    run, export = (tmp_path / name / "tokenizer.json" for name in ("run", "export"))
    assert run.read_bytes() == export.read_bytes()
    assert load_tokenizer(tmp_path / "export").context == 16


def test_another_vocab_size_in_the_same_run_is_refused(tmp_path: Path):
    trained(tmp_path)
    with pytest.raises(ConfigError, match=r"vocab_size 320.*400"):
        TrainedBpe(400, 16).prepare(lambda: CAPTIONS, tmp_path)


def test_use_before_setup_says_what_to_call():
    with pytest.raises(ConfigError, match=r"prepare\(captions, folder\)"):
        TrainedBpe(320, 16)(["a red circle"])


def test_no_captions_and_too_few_ids_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="captions of the training source"):
        TrainedBpe(320).prepare(list, tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    with pytest.raises(ConfigError, match="vocab_size is 100"):
        TrainedBpe(100)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"tokenizer": "T5"}', '{"tokenizer": "TrainedBpe"}'])
def test_damaged_or_foreign_file_is_named(tmp_path: Path, content: str):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match="tokenizer.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="tokenizer.json"):
        TrainedBpe(320).setup(tmp_path)


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="no tokenizer at"):
        load_tokenizer(tmp_path)
