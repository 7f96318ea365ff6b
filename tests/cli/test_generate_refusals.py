"""What `generate` refuses, and what it leaves where it could not finish."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmfound.building import build
from mmfound.diffusion.pipeline import Pipeline
from mmfound.generating import files
from mmfound.text import load_tokenizer
from mmfound.weights import export
from tests.cli.generated import RED, names
from tests.generating.stages import stage, text


def test_a_sheet_of_somebody_else_is_not_written_over(place: Path, run):
    (place / "o").mkdir()
    shutil.copy("photo.png", "o/sheet.png")
    code, _, err = run("generate", *BASE, *RED, "--to", "o")
    assert (code, names("o")) == (2, ["sheet.png"])
    assert "o/sheet.png is in the way" in err


def test_a_batch_that_does_not_fit_the_memory_is_told_with_the_way_out(place: Path, run, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("tried to allocate")

    monkeypatch.setattr(Pipeline, "draw", full)
    code, _, err = run("generate", *BASE, *RED, "--n", "3", "--to", "o")
    assert code == 2
    assert "3 pictures at a time do not fit the memory of cpu; lower --batch_size" in err


def test_a_full_disk_keeps_what_is_there_and_the_same_command_goes_on(place: Path, run, monkeypatch):
    command = ("generate", "--from", "base", *RED, "--n", "3", "--to", "o")
    sync, written = files.sync, []

    def full(path: Path) -> None:
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        sync(path)

    monkeypatch.setattr(files, "sync", full)
    code, _, err = run(*command)
    assert (code, "no room to write o/0000_0001.png; make some" in err) == (8, True)
    assert names("o") == ["0000_0000.png"]
    assert run(*command)[0] == 0
    assert names("o") == ["0000_0000.png", "0000_0001.png", "0000_0002.png", "sheet.png"]


def test_weights_that_are_no_numbers_draw_nothing(place: Path, run):
    config = stage(8, text())
    module = build(config, "test")
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    export(module, config, place / "diverged", tokenizer=load_tokenizer(place / "base"))
    code, _, err = run("generate", "--from", "diverged", *RED, "--to", "o")
    assert (code, names("o")) == (3, [])
    assert "diverged: weights are damaged, or a run has diverged" in err


LONG = "a red square " * 12
BASE = ("--from", "base")
BAD = {
    "no such export": ((*RED, "--from", "nowhere"), 2, "no exported module in nowhere"),
    "an export of something else": ((*RED, "--from", "clip"), 2, "clip holds a DualEncoder, which draws no pictures"),
    "stages that do not fit": (
        (*RED, "--from", "up", "base"),
        2,
        "up draws pictures of 16 x 16 pixels, and base takes",
    ),
    "no tokenizer": ((*RED, "--from", "mute"), 2, "mute reads text and has no tokenizer.json"),
    "no prompt": (BASE, 2, "base draws what a text says; give --prompt"),
    "a prompt for nobody": ((*RED, "--from", "up", "--image", "photo.png"), 2, "no stage reads text (up)"),
    "both kinds of prompts": ((*BASE, *RED, "--prompts", "x"), 2, "give --prompt or --prompts"),
    "no file of prompts": ((*BASE, "--prompts", "x.txt"), 3, "cannot read x.txt"),
    "a long prompt": ((*BASE, "--prompt", "ok", LONG), 2, "more than the context 24: 'a red square"),
    "an unknown sampler": ((*BASE, *RED, "--sampler", "ddimm"), 2, "no sampler 'ddimm'; did you mean 'ddim'?"),
    "a class that is no sampler": ((*BASE, *RED, "--sampler", "level"), 2, "there are ddim, ddpm, dpmsolver2m, euler"),
    "a prompt that is no text": ((*BASE, "--prompt", "a \udcff"), 2, "is not UTF-8; write it in a file"),
    "a file of weights": (("--from", "base/module.safetensors", *RED), 2, "module.safetensors is no export of ours"),
    "too many values": ((*BASE, *RED, "--steps", "2", "3"), 2, "--steps has 2 values for 1 stages"),
    "guidance without a null": (("--from", "classes", "--label", "1", "--guidance", "2"), 2, "ClassLabels (drop 0"),
    "an end of no guidance": ((*BASE, *RED, "--guidance_until", "1"), 2, "base is not guided; give --guidance G"),
    "an end of guidance by 1": ((*BASE, *RED, "--guidance", "1", "--guidance_until", "1"), 2, "base is not guided"),
    "an end that is no number": ((*BASE, *RED, "--guidance_until", "nan"), 2, "nan is no log-SNR to guide to"),
    "no class": (("--from", "classes"), 2, "classes draws classes; give --label"),
    "a class that there is not": (
        ("--from", "classes", "--label", "3"),
        2,
        "has classes: 3, but is given label 3",
    ),
    "a class below the first": (("--from", "classes", "--label", "-1"), 2, "has classes: 3, but is given label -1"),
    "a CLIP of another size": (
        (*BASE, *RED, "--clip", "clip", "--clip_scale", "1"),
        2,
        "clip takes pictures of 16 pixels a side, and the first export draws them of 8",
    ),
    "an unknown axis": ((*BASE, *RED, "--grid", "guidence=1,2"), 2, "did you mean 'guidance'?"),
    "an axis of words": ((*BASE, *RED, "--grid", "steps=a,b"), 2, "a is not 1 or more"),
    "a grid of what is said": ((*BASE, *RED, "--steps", "3", "--grid", "steps=1,2"), 2, "say the same thing"),
    "no picture": ((*BASE, *RED, "--image", "none.png", "--strength", "1"), 3, "cannot read the picture none.png"),
    "a text as picture": (
        (*BASE, *RED, "--image", "text.png", "--strength", "1"),
        3,
        "cannot read the picture text.png",
    ),
    "a mask of another size": (
        (*BASE, *RED, "--image", "photo.png", "--mask", "small.png"),
        3,
        "the mask small.png has 4 x 3 pixels, and the picture photo.png 41 x 27",
    ),
    "a black mask": ((*BASE, *RED, "--image", "photo.png", "--mask", "black.png"), 3, "white is what is drawn anew"),
    "a strength out of range": ((*BASE, *RED, "--image", "photo.png", "--strength", "1.2"), 2, "strength 1.2 is not"),
    "a strength of nothing": ((*BASE, *RED, "--strength", "0.5"), 2, "give --image"),
    "a picture for nothing": ((*BASE, *RED, "--image", "photo.png"), 2, "with a picture goes a mask"),
    "an upsampler of nothing": (("--from", "up"), 2, "enlarges pictures of 8 pixels to 16; give it a picture"),
    "a CLIP without a scale": ((*BASE, *RED, "--clip", "noised"), 2, "--clip WEIGHTS and --clip_scale X go together"),
    "a CLIP without a prompt": (
        ("--from", "classes", "--label", "1", "--clip", "noised", "--clip_scale", "1"),
        2,
        "--clip pulls pictures towards their prompts",
    ),
    "a folder that is a file": ((*BASE, *RED, "--to", "text.png"), 2, "text.png cannot be written"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_input_is_told_in_a_sentence_and_nothing_is_written(case, place: Path, run):
    argv, expected, told = case
    (place / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(place / "small.png")
    Image.fromarray(np.zeros((27, 41), np.uint8)).save(place / "black.png")
    code, _, err = run("generate", *argv)
    assert (code, told in err) == (expected, True), err
    assert "Traceback" not in err
    assert not (place / "generated").exists()
