"""ClipBpe: ids of OpenAI's tokenizer, text that cannot end itself, cheap copies to workers."""

import gzip
import json
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from mmfound.errors import ConfigError
from mmfound.text import ClipBpe, load_tokenizer

open_clip_tokenizer = pytest.importorskip("open_clip.tokenizer", reason="needs the extra mmfound[pretrained]")

TRICKY = [
    "",
    "   ",
    "don't I'LL we've they'RE it'd 'tis O'Reilly's",
    "caf\u00e9 na\u00efve \u00fcber stra\u00dfe \u0130stanbul \u039f\u0394\u039f\u03a3 \u1e9e",
    "a &amp; b &lt;b&gt; &amp;amp; &quot;x&quot; &#39;y&#39;",
    "l\u2019avion \u201cquoted\u201d \u2026 \u2014 1\u20442 \u00bd x\u00b2 \u2167",
    "\u4e00\u53ea\u732b\u5728\u684c\u5b50\u4e0a \u0915\u0941\u0924\u094d\u0924\u093e \u0643\u0644\u0628",
    "\U0001f408\u200d\u2b1b \U0001f469\U0001f3fd\u200d\U0001f680 \u2764\ufe0f",
    "tab\tnew\nline\r\n\x0bvt \x1b[31mred\x1b[0m \x00nul",
    "schÃ¶n mojibake â€œquotesâ€\x9d",
    "snake_case __init__ 3.14159 1,000,000 $5.99 50% #tag @user",
    "!!!???...;;;---===+++ (a) [b] {c} <d> a/b\\c",
    "supercalifragilisticexpialidocious" * 5,
    "a" * 500,
]


@pytest.fixture(scope="module")
def openai() -> Any:
    return open_clip_tokenizer.SimpleTokenizer()


@pytest.fixture(scope="module")
def clip() -> ClipBpe:
    return ClipBpe()


def random_texts(count: int) -> list[str]:
    draw = random.Random(0)
    alphabet = [chr(c) for c in (*range(32, 127), *range(0xA0, 0x250), *range(0x370, 0x400), *range(0x1F600, 0x1F640))]
    alphabet = [c for c in alphabet if c.isprintable() or c == " "] + [" "] * 60 + ["'s", "&amp;", "\u2019"]
    return ["".join(draw.choices(alphabet, k=draw.randint(1, 40))) for _ in range(count)]


def test_ids_equal_openais_on_real_captions(clip: ClipBpe, openai, shared_data: Path):
    raw = (shared_data / "text" / "coco_captions_val2017.json.gz").read_bytes()
    texts = [caption for picture in json.loads(gzip.decompress(raw)) for caption in picture["captions"]]
    assert len(texts) > 12_000
    assert clip.ids(texts) == [openai.encode(text) for text in texts]


def test_ids_equal_openais_on_tricky_and_random_text(clip: ClipBpe, openai):
    texts = TRICKY + random_texts(1500)
    assert clip.ids(texts) == [openai.encode(text) for text in texts]


def test_batch_equals_openais_with_padding_off(clip: ClipBpe, openai):
    texts = ["a photo of a cat", "word " * 100, "", "two dogs"]
    batch = clip(texts)
    assert batch["tokens"].shape == (4, 77)
    torch.testing.assert_close(batch["tokens"], openai(texts))
    assert batch["token_mask"].sum(1).tolist() == [7, 77, 2, 4]


@pytest.mark.parametrize(("words", "length"), [(1, 8), (6, 8), (7, 16), (70, 72), (71, 77), (200, 77)])
def test_length_is_the_longest_rounded_up_to_8_and_ends_with_the_end_token(clip: ClipBpe, words: int, length: int):
    batch = clip(["cat " * words, "cat"])
    assert batch["tokens"].shape == (2, length)
    last = batch["token_mask"].sum(1) - 1
    assert batch["tokens"][torch.arange(2), last].tolist() == [clip.end_id] * 2
    assert batch["tokens"][:, 0].tolist() == [clip.start_id] * 2


def test_special_strings_in_captions_are_plain_text(clip: ClipBpe):
    (ids,) = clip.ids(["a cat <|endoftext|> ignore <|startoftext|>"])
    assert max(ids) < clip.start_id
    assert clip.decode(ids) == "a cat <| endoftext |> ignore <| startoftext |>"


def test_exact_reads_special_strings_where_openai_does():
    exact = ClipBpe(exact=True)
    end, start = exact.end_id, exact.start_id
    cat, bang = exact.ids(["cat"])[0], exact.ids(["! <|"])[0]
    assert exact.ids(["cat <|ENDOFTEXT|><|startoftext|>cat<|endoftext|>!"])[0] == [*cat, end, start, *cat, end, bang[0]]
    assert end not in exact.ids(["!<|endoftext|>"])[0], "a run of punctuation swallows the start of the string"


def test_exact_equals_openais_pattern_on_specials_glued_to_anything(openai):
    strings = {"<|startoftext|>": "<start_of_text>", "<|endoftext|>": "<end_of_text>"}  # as open_clip spells them
    draw = random.Random(1)
    pieces = [*strings, *strings, "cat", " ", "!", "_", "7", "'s", "\u00e9", "\u2167"]
    texts = ["".join(draw.choices(pieces, k=6)) for _ in range(300)]
    texts = [text for text in texts if not any(mark + name in text for name in strings for mark in "!_>'")]
    ours = ClipBpe(exact=True).ids(texts)
    for ids, text in zip(ours, texts, strict=True):
        for name, other in strings.items():
            text = text.replace(name, other)
        assert ids == openai.encode(text), text


def test_decode_gives_back_cleaned_words(clip: ClipBpe):
    batch = clip(["Two  Dogs, playing!", "a caf\u00e9"])
    assert [clip.decode(row.tolist()) for row in batch["tokens"]] == ["two dogs , playing !", "a caf\u00e9"]


def test_saved_tokenizer_is_equal_and_needs_no_vocabulary_file(clip: ClipBpe, tmp_path: Path):
    ClipBpe(context=16, exact=True).save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, ClipBpe)
    assert (loaded.context, loaded.exact, loaded.vocab_size) == (16, True, 49408)
    assert loaded.ids(TRICKY) == clip.ids(TRICKY)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_copy_to_a_worker_is_small_and_equal(clip: ClipBpe):
    pickled = pickle.dumps(clip)
    assert len(pickled) < 2000
    assert pickle.loads(pickled).ids(TRICKY) == clip.ids(TRICKY)


def test_without_open_clip_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mmfound.text.installed.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"mmfound\[pretrained\]"):
        ClipBpe()


@pytest.mark.parametrize("content", [b"", b"version\na b\n", b"\x1f\x8bnot gzip"])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes):
    for name in ("merges.txt", "merges.txt.gz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=name):
            ClipBpe(tmp_path / name)
    with pytest.raises(ConfigError, match="absent.gz"):
        ClipBpe(tmp_path / "absent.gz")


def test_too_small_a_context_is_refused():
    with pytest.raises(ConfigError, match="context is 2"):
        ClipBpe(context=2)
