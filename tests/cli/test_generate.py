"""generate from the command line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmfound.diffusion.pipeline import Pipeline
from tests.cli.generated import RED, contents, facts, names, read
from tests.generating.stages import stage, stage_export, text


def test_pictures_say_what_they_were_drawn_with_and_are_on_a_sheet(place: Path, run):
    (place / "prompts.txt").write_text("a red square\n\n  a blue circle \n")
    code, out, _ = run("generate", "--from", "base", "--prompts", "prompts.txt", "--n", "2", "--seed", "3", "--to", "o")
    assert (code, out) == (0, "o: 4 pictures drawn; see o/sheet.png\n")
    assert names("o") == ["0000_0000.png", "0000_0001.png", "0001_0000.png", "0001_0001.png", "sheet.png"]
    said = facts("o/0001_0001.png")
    assert (said["prompt"], said["seed"], said["index"]) == ("a blue circle", 3, 10_001)
    assert said["stages"][0]["steps"] == 3
    assert said["stages"][0]["sampler"] == {"kind": "Ddim", "eta": 0.0}
    assert len(said["stages"][0]["export"]) == 64
    assert read("o/0000_0000.png").shape == (8, 8, 3)
    distinct = {read(f"o/{name}").tobytes() for name in names("o")}
    assert len(distinct) == 5


def test_without_a_folder_the_same_command_has_the_same_one_and_others_have_others(place: Path, run):
    command = ("generate", "--from", "base", *RED)
    assert run(*command)[0] == run(*command)[0] == run(*command, "--seed", "1")[0] == 0
    found = names("generated")
    assert len(found) == 2
    assert all(name.startswith("a-red-square-") for name in found)


def test_the_same_command_gives_the_same_bytes_and_draws_what_is_missing(place: Path, run):
    command = ("generate", "--from", "base", "up", *RED, "--n", "5", "--batch_size", "2", "--to")
    assert run(*command, "a")[0] == run(*command, "b")[0] == 0
    before = contents("a")
    assert contents("b") == before
    Path("a/0000_0003.png").unlink()
    Path("a/0000_0004.png").write_bytes(before["0000_0004.png"][:50])
    code, out, err = run(*command, "a")
    assert (code, out) == (0, "a: 2 pictures drawn, 3 were there; see a/sheet.png\n")
    assert "3 of 5 pictures are there already" in err
    assert contents("a") == before


def test_after_an_interruption_the_same_command_goes_on(place: Path, run, monkeypatch: pytest.MonkeyPatch):
    command = ("generate", "--from", "base", *RED, "--n", "5", "--batch_size", "2", "--to")
    run(*command, "whole")
    draw, asked = Pipeline.draw, []

    def interrupted(self, batch, indices, *args, **kwargs):
        asked.append(indices)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return draw(self, batch, indices, *args, **kwargs)

    monkeypatch.setattr(Pipeline, "draw", interrupted)
    code, _, err = run(*command, "part")
    assert code == 130
    assert "the same command goes on" in err
    assert names("part") == ["0000_0000.png", "0000_0001.png"]
    assert run(*command, "part")[0] == 0
    assert asked[2:] == [[2, 3], [4]]
    assert contents("part") == contents("whole")


def test_more_pictures_and_more_prompts_join_those_that_are_there(place: Path, run):
    command = ("generate", "--from", "base", "--to", "o", "--batch_size", "1")
    assert run(*command, *RED)[0] == 0
    first = read("o/0000_0000.png")
    code, out, _ = run(*command, *RED, "a blue circle", "--n", "2")
    assert (code, out.split(";")[0]) == (0, "o: 3 pictures drawn, 1 were there")
    assert (read("o/0000_0000.png") == first).all()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (("--seed", "1"), "seed: 0, and now it is 1"),
        (("--steps", "4"), "stages.0.steps: 3, and now it is 4"),
        (("--guidance", "3"), "stages.0.guidance.kind: None, and now it is 'ClassifierFree'"),
        (("--sampler", "ddpm"), "stages.0.sampler.kind: 'Ddim', and now it is"),
    ],
)
def test_a_folder_of_other_settings_is_refused(changed: tuple[str, ...], told: str, place: Path, run):
    command = ("generate", "--from", "base", *RED, "--to", "o")
    run(*command)
    before = contents("o")
    code, _, err = run(*command, *changed)
    assert code == 2
    assert "was drawn with" in err
    assert told in err
    assert contents("o") == before


def test_another_export_in_the_same_place_is_refused(place: Path, run):
    shutil.copytree("base", "mine", symlinks=False)
    run("generate", "--from", "mine", *RED, "--to", "o")
    shutil.rmtree("mine")
    stage_export(place / "mine", stage(8, text()), seed=9)
    code, _, err = run("generate", "--from", "mine", *RED, "--to", "o")
    assert code == 2
    assert "stages.0.export" in err


def test_a_grid_draws_everything_at_each_value(place: Path, run):
    assert run("generate", "--from", "base", *RED, "--n", "2", "--grid", "guidance=1,4", "--to", "grid")[0] == 0
    assert len(names("grid")) == 5
    assert run("generate", "--from", "base", *RED, "--n", "2", "--guidance", "4", "--to", "four")[0] == 0
    drawn = [read("grid/0000_0001_guidance=1.png"), read("grid/0000_0001_guidance=4.png")]
    assert (drawn[1] == read("four/0000_0001.png")).all()
    assert (drawn[0] != drawn[1]).any()
    assert read("grid/sheet.png").shape[0] > read("four/sheet.png").shape[0]  # of one row, without heads
    for axis in ("seed=5,6", "steps=2,4", "sampler=ddpm,euler,dpmsolver2m"):
        assert run("generate", "--from", "base", *RED, "--grid", axis, "--to", axis)[0] == 0
        pictures = [read(f"{axis}/{name}") for name in names(axis) if name != "sheet.png"]
        assert len({picture.tobytes() for picture in pictures}) == len(axis.split(","))


def test_guidance_ends_where_it_is_told_to(place: Path, run):
    guided = ("generate", "--from", "base", *RED, "--guidance", "4")
    assert run(*guided, "--grid", "guidance_until=-100,0,inf", "--to", "grid")[0] == 0
    assert run(*guided, "--to", "all")[0] == 0
    assert run("generate", "--from", "base", *RED, "--to", "none")[0] == 0
    never, half, always = (read(f"grid/0000_0000_guidance_until={end}.png") for end in ("-100", "0", "inf"))
    assert (always == read("all/0000_0000.png")).all()
    assert (never == read("none/0000_0000.png")).all()
    assert (half != always).any()
    assert (half != never).any()
    assert facts("grid/0000_0000_guidance_until=0.png")["stages"][0]["guidance"]["interval"] == ["-inf", 0.0]


def test_values_of_a_grid_that_lie_close_have_pictures_of_their_own(place: Path, run):
    code, out, _ = run("generate", "--from", "base", *RED, "--grid", "guidance=2.0000001,2.0000002", "--to", "o")
    assert (code, out.split(";")[0]) == (0, "o: 2 pictures drawn")
    assert names("o")[:2] == ["0000_0000_guidance=2.0000001.png", "0000_0000_guidance=2.0000002.png"]


def test_a_line_of_prompts_ends_where_editors_end_it(place: Path, run):
    (place / "prompts.txt").write_bytes("a red\u2028square\r\n\r\na blue\x0ccircle\r\n".encode())
    code, out, _ = run("generate", "--from", "base", "--prompts", "prompts.txt", "--to", "o")
    assert (code, out.split(";")[0]) == (0, "o: 2 pictures drawn")
    assert facts("o/0000_0000.png")["prompt"] == "a red\u2028square"


def test_what_another_command_draws_meanwhile_is_not_written_over(place: Path, run, monkeypatch: pytest.MonkeyPatch):
    command = ("generate", "--from", "base", *RED, "--to", "o")
    draw = Pipeline.draw

    def slowly(self, *args, **kwargs):
        monkeypatch.setattr(Pipeline, "draw", draw)
        assert run(*command, "--seed", "1")[0] == 0
        return draw(self, *args, **kwargs)

    monkeypatch.setattr(Pipeline, "draw", slowly)
    code, _, err = run(*command)
    assert (code, "was drawn with seed: 1, and now it is 0" in err) == (2, True)
    assert facts("o/0000_0000.png")["seed"] == 1


def test_a_clip_pulls_towards_its_prompt_by_its_scale(place: Path, run):
    command = ("generate", "--from", "base", "up", *RED, "--clip", "noised")
    assert run(*command, "--grid", "clip_scale=0,50", "--to", "grid")[0] == 0
    assert run("generate", "--from", "base", "up", *RED, "--to", "without")[0] == 0
    none, some = (read(f"grid/0000_0000_clip_scale={scale}.png") for scale in (0, 50))
    assert (none == read("without/0000_0000.png")).all()
    assert (some != none).any()
    assert run(*command, "--clip_scale", "50", "--to", "alone")[0] == 0
    assert (read("alone/0000_0000.png") == some).all()
    said = facts("alone/0000_0000.png")
    assert said["stages"][0]["steering"]["scale"] == 50
    assert said["stages"][1]["steering"] is None
    assert len(said["clip"]) == 64


def test_settings_go_to_the_stages_in_their_order(place: Path, run):
    run("generate", "--from", "base", "up", *RED, "--steps", "2", "4", "--sampler", "Heun", "--to", "o")
    first, second = facts("o/0000_0000.png")["stages"]
    assert (first["steps"], second["steps"]) == (2, 4)
    assert (first["sampler"]["kind"], second["sampler"]["kind"]) == ("Heun", "Ddim")
    assert read("o/0000_0000.png").shape == (16, 16, 3)


@pytest.mark.parametrize("exports", [("inpaint",), ("inpaint", "inpaint_up"), ("base", "up")], ids=" ".join)
def test_inpainting_a_picture_of_any_size_changes_nothing_outside_of_the_mask(exports, place: Path, run):
    command = ("--image", "photo.png", "--mask", "mask.png", "--n", "2", "--to", "o")
    code, _, err = run("generate", "--from", *exports, *RED, *command)
    assert code == 0
    assert ("was not trained to inpaint" in err) == (exports[0] == "base")
    before = read("photo.png")
    hole = np.zeros((27, 41), bool)
    hole[10:15, 20:29] = True
    drawn = [read("o/0000_0000.png"), read("o/0000_0001.png")]
    for picture in drawn:
        assert (picture[~hole] == before[~hole]).all()
        assert (picture[hole] != before[hole]).any(axis=1).mean() > 0.9
    assert (drawn[0] != drawn[1]).any()
    assert {"image", "mask"} <= facts("o/0000_0000.png").keys()


def test_a_mask_that_is_transparent_where_it_is_to_be_drawn_does_the_same(place: Path, run):
    command = ("generate", "--from", "inpaint", *RED, "--image", "photo.png", "--mask")
    run(*command, "mask.png", "--to", "white")
    clear = np.zeros((27, 41, 4), np.uint8)
    clear[..., 3] = 255 - np.asarray(Image.open("mask.png"))
    Image.fromarray(clear).save("clear.png")
    run(*command, "clear.png", "--to", "clear")
    assert (read("white/0000_0000.png") == read("clear/0000_0000.png")).all()


def test_more_strength_leaves_less_of_a_picture(place: Path, run):
    command = ("--image", "photo.png", "--grid", "strength=0.34,1", "--to", "o")
    code, _, err = run("generate", "--from", "base", "up", *RED, *command)
    assert code == 0
    assert "photo.png: its central 27 x 27 pixels are taken as 8 x 8" in err
    little, whole = (read(f"o/0000_0000_strength={value}.png") for value in ("0.34", "1"))
    assert little.shape == (16, 16, 3)
    assert (little != whole).any()
    assert facts("o/0000_0000_strength=0.34.png")["strength"] == 0.34


def test_an_upsampler_enlarges_a_picture_without_a_prompt(place: Path, run):
    assert run("generate", "--from", "up", "--image", "photo.png", "--n", "2", "--to", "o")[0] == 0
    assert read("o/0000_0001.png").shape == (16, 16, 3)


def test_classes_are_drawn_by_their_numbers(place: Path, run):
    assert run("generate", "--from", "classes", "--label", "0", "2", "--to", "o")[0] == 0
    assert (facts("o/0001_0000.png")["label"], "prompt" in facts("o/0001_0000.png")) == (2, False)
