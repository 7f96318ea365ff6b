"""From a file in GLIDE's released layout to a stage, its tokenizer and pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmfound.cli import main
from mmfound.diffusion import Stage
from mmfound.diffusion.conditioning import Condition
from mmfound.diffusion.spacing import spaced
from mmfound.errors import ConfigError
from mmfound.generating.loading import load_pipeline
from mmfound.interop.glide import load_glide
from mmfound.text import load_tokenizer
from mmfound.text.glide_bpe import glide_bpe
from mmfound.weights import describe, pretrained
from tests.interop.test_glide import released_text, torch_layers
from tests.parity import unets

MERGES = "#version: 0.2\nr e\nre d\n\u0120 red\n"
VOCABULARY, CONTEXT = 256 + 3 + 1, 16
CHANNELS = {"base": 3, "upsample": 6, "base_inpaint": 7, "upsample_inpaint": 10}


def released(kind: str, levels: int = 2) -> dict[str, Any]:
    attends = [False] * (levels - 1) + [True]
    theirs = unets.their_adm(
        **unets._levels(attends),
        in_channels=CHANNELS[kind],
        block_out_channels=(64,) * levels,
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=64,
    )
    text = released_text(torch_layers(64, 1), VOCABULARY, CONTEXT, 4 * 64)
    return unets.as_released(unets.drawn(theirs), 64) | text  # pyright: ignore[reportArgumentType]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vocab.bpe").write_text(MERGES, encoding="utf-8")
    return tmp_path


def exported(kind: str, *options: str, levels: int = 2) -> str:
    torch.save(released(kind, levels), f"{kind}.pt")
    assert main(["export", f"{kind}.pt", "--to", f"exports/{kind}", *options]) == 0
    return f"exports/{kind}"


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_released_file_becomes_a_stage_that_computes_what_it_does(kind: str, folder: Path):
    stage = pretrained(exported(kind))
    assert isinstance(stage, Stage)
    x, image, low = torch.randn(2, 3, 16, 16), torch.rand(2, 3, 16, 16), torch.rand(2, 3, 4, 4)
    mask = torch.rand(2, 1, 16, 16) > 0.5
    tokens = load_tokenizer(Path(f"exports/{kind}"))(["a red", "red red red"])
    batch = {**tokens, "known_image": image, "mask": mask, "low_resolution": low}
    level = stage.schedule.level(torch.tensor(700.0))
    prediction, fraction = stage.output(x, level, stage.condition(batch, 2))
    assert fraction is not None
    found = torch.cat([prediction, fraction], dim=1)

    glide = load_glide(f"{kind}.pt")
    beside = [(image * 2 - 1) * mask, mask.float()] if "inpaint" in kind else []
    if "upsample" in kind:
        small = (low * 255).round() / 127.5 - 1
        beside.append(F.interpolate(small, (16, 16), mode="bilinear", align_corners=False))
    hidden, vector = glide.text(tokens["tokens"], tokens["token_mask"])
    concat = torch.cat(beside, dim=1) if beside else None
    expected = glide.network.eval()(x, torch.tensor(700.0), Condition(hidden, vector=vector, concat=concat))
    expected[:, 3:] = (expected[:, 3:] + 1) / 2
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", CHANNELS)
def test_what_the_weights_do_not_say_is_that_of_the_published_examples(kind: str, folder: Path):
    stage = pretrained(exported(kind))
    assert isinstance(stage, Stage)
    first = torch.sigmoid(stage.schedule.level(torch.tensor(0.0)).log_snr)
    times = stage.schedule.times(stage.sampling.steps).tolist()
    guidance = getattr(stage.sampling.guidance, "scale", None)
    sampler, temperature = type(stage.sampling.sampler).__name__, stage.sampling.temperature
    if "upsample" in kind:
        assert float(1 - first) == pytest.approx(1e-4)  # betas from 0.0001 to 0.02
        assert (len(times), times[0], temperature, guidance) == (27, 997, 0.997, None)
        assert sampler == ("Ddpm" if "inpaint" in kind else "Ddim")
    else:
        assert float(1 - first) == pytest.approx(4.128e-5, rel=1e-3)  # 1 - cos^2 of the first step's angle
        assert (times[::-1], temperature, sampler) == (spaced(1000, "100", None), 1.0, "Ddpm")
        assert guidance == (5 if "inpaint" in kind else 3)


def test_a_released_file_draws(folder: Path):
    base, upsampler = exported("base"), exported("upsample", levels=4)
    assert main(["generate", "--from", base, "--prompt", "A red", "--n", "2", "--steps", "20", "--to", "drawn"]) == 0
    pictures = [np.asarray(Image.open(f"drawn/0000_000{number}.png")) for number in (0, 1)]
    assert pictures[0].shape == (16, 16, 3)
    assert pictures[0].std() > 1
    assert (pictures[0] != pictures[1]).any()
    assert [link.side for link in load_pipeline([base, upsampler]).pipeline.links] == [16, 64]


def test_without_a_vocabulary_it_is_loaded_and_prompting_says_what_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    (folder / "vocab.bpe").rename(folder / "elsewhere.bpe")
    base = exported("base")
    assert "cannot be prompted; --vocabulary names one" in capsys.readouterr().out
    assert main(["generate", "--from", base, "--prompt", "a red"]) == 2
    assert "export --vocabulary vocab.bpe" in capsys.readouterr().err
    assert main(["export", "base.pt", "--to", "told", "--vocabulary", "elsewhere.bpe"]) == 0
    assert load_tokenizer(folder / "told").vocab_size == VOCABULARY


def test_bad_input_is_told(folder: Path, capsys: pytest.CaptureFixture[str]):
    torch.save(released("base"), "base.pt")
    (folder / "other.bpe").write_text("r e\nre d\n", encoding="utf-8")
    (folder / "damaged.bpe").write_text("r e d\n", encoding="utf-8")
    (folder / "unknown.bpe").write_text("r zz\n", encoding="utf-8")
    for options, told in {
        ("--vocabulary", "none.bpe"): "none.bpe cannot be read",
        ("--vocabulary", "other.bpe"): "other.bpe makes 259 tokens, and base.pt has 260",
        ("--vocabulary", "damaged.bpe"): "damaged.bpe is no vocab.bpe",
        ("--vocabulary", "unknown.bpe"): "unknown.bpe is no vocab.bpe",
        ("--format", "hf"): "base.pt holds a stage of GLIDE",
        ("--image_size", "32"): "leave image_size out",
    }.items():
        assert main(["export", "base.pt", "--to", "out", *options]) == 2
        assert told in capsys.readouterr().err
        assert not Path("out").exists()
    assert main(["generate", "--from", "base.pt", "--prompt", "a red"]) == 2
    assert "base.pt is no export of ours; of released GLIDE weights" in capsys.readouterr().err


def test_a_recipe_takes_a_part_of_a_released_file(folder: Path):
    torch.save(released("base"), "base.pt")
    network = pretrained("base.pt", part="network")
    expected = load_glide("base.pt").network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    assert describe("base.pt")["image"] == {"size": 16}


def test_texts_are_lower_case_bytes_joined_by_merges_in_their_order(folder: Path):
    tokenizer = glide_bpe(folder / "vocab.bpe", 8)
    found = tokenizer(["A RED red", "\u00fc r", ""])
    texts = [row[mask].tolist() for row, mask in zip(found["tokens"], found["token_mask"], strict=True)]
    # Printable bytes come first, from "!" = 33 on; the space is the 220th, merges begin at 256.
    assert texts == [[ord("a") - 33, 258, 258], [127, 120, 220, ord("r") - 33], []]
    assert tokenizer(["red" * 9])["token_mask"].sum() == 8
    tokenizer.save(folder / "saved")
    assert (load_tokenizer(folder / "saved")(["A RED red"])["tokens"] == found["tokens"][:1]).all()
    with pytest.raises(ConfigError, match=r"none\.bpe cannot be read as GPT-2's"):
        glide_bpe(folder / "none.bpe")
