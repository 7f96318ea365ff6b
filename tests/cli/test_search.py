"""embed, search and score from the command line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mmfound.text.trained_bpe import TrainedBpe
from tests.embedding.tiny import photos, tiny_export
from tests.interop.references import model_config, open_clip_model


@pytest.fixture
def place(folder: Path) -> Path:
    """The working folder, with an export and a folder of ten pictures in two classes."""
    tiny_export(folder / "export")
    photos(folder / "photos")
    return folder


@pytest.mark.parametrize("name", ["e.npy", "e.parquet"])
def test_a_picture_is_found_by_itself_and_a_text_finds_pictures(name: str, place: Path, run):
    code, out, _ = run("embed", "export", "photos", "--to", name)
    assert (code, out) == (0, f"{name}: 10 embeddings of width 8\n")
    code, out, _ = run("search", name, "--image", "photos/b/03.png", "--text", "a red square", "-k", "3", "--json")
    assert code == 0
    text, picture = json.loads(out)
    assert [len(text["hits"]), text["query"], picture["query"]] == [3, "a red square", "photos/b/03.png"]
    best = picture["hits"][0]
    assert best["score"] == pytest.approx(1, abs=1e-6)
    assert (best["rank"], best["key"], best["index"]) == (1, "b/03.png", 6)
    assert Path(best["path"]).samefile("photos/b/03.png")
    code, out, _ = run("search", name, "--image", "photos/b/03.png", "-k", "2", "--to", "sheet.png")
    assert out.splitlines()[1].split()[:3] == ["1", "1.0000", "b/03.png"]
    assert (place / "sheet.png").stat().st_size > 100


def test_the_same_command_again_says_that_it_is_finished(place: Path, run):
    assert run("embed", "export", "photos", "--to", "out")[0] == 0
    assert sorted(path.name for path in (place / "out").iterdir()) == [
        "embeddings.json",
        "embeddings.keys.txt",
        "embeddings.npy",
    ]
    code, out, err = run("embed", "export", "photos", "--to", "out")
    assert (code, out) == (0, "")
    assert "is finished" in err
    assert run("search", "out", "--text", "a", "-k", "1")[0] == 0


def test_any_source_comes_from_a_file(place: Path, run):
    described = {"class_path": "mmfound.data.Shapes", "init_args": {"count": 5, "size": 32}}
    (place / "shapes.yaml").write_text(yaml.safe_dump(described))
    assert run("embed", "export", "--config", "shapes.yaml", "--to", "s.npy", "--text")[0] == 0
    assert np.load("s.npy").shape == (5, 8)
    (place / "bad.yaml").write_text("class_path: mmfound.data.Shape")
    code, _, err = run("embed", "export", "--config", "bad.yaml", "--to", "t.npy")
    assert code == 2
    assert "mmfound.data.Shape" in err


def test_moved_weights_are_named_and_others_are_refused(place: Path, run):
    run("embed", "export", "photos", "--to", "e.npy")
    (place / "export").rename("moved")
    code, _, err = run("search", "e.npy", "--text", "a")
    assert code == 2
    assert "which is gone; say where it is now with --weights" in err
    assert run("search", "e.npy", "--text", "a", "--weights", "moved")[0] == 0
    tiny_export(place / "other", seed=1)
    code, _, err = run("search", "e.npy", "--text", "a", "--weights", "other")
    assert code == 2
    facts = json.loads((place / "e.json").read_text())
    assert f"made with other weights (SHA-256 {facts['weights_sha256']})" in err


BAD = {
    "embed export photos --to e.txt": (2, "ends in '.txt'; name a .parquet or .npy file, or a folder"),
    "embed export nowhere --to e.npy": (3, "no source at nowhere"),
    "embed export empty --to e.npy": (3, "empty holds no picture"),
    "embed nowhere photos --to e.npy": (2, "no exported module in nowhere"),
    "embed export --to e.npy": (2, "name a SOURCE or its --config"),
    "embed export photos": (2, "the following arguments are required: --to"),
    "embed export photos --to e.npy --batch_size 0": (2, "0 is not 1 or more"),
    "embed export photos --to e.npy --workers -1": (2, "-1 is not 0 or more"),
    "embed export photos --to m.npy/e.npy": (2, "m.npy/e.npy cannot be written: Not a directory"),
    "embed run photos --to e.npy": (2, "run is a run folder; its weights are in run/export"),
    "embed gone.pt photos --to e.npy": (2, "there are no weights at gone.pt"),
    "export export --to m.npy/e": (2, "m.npy/e cannot be written"),
    "embed mute photos --to e.npy --text": (2, "mute has no tokenizer"),
    "embed export photos --to e.npy --text": (3, "has no captions"),
    "search e.npy --text a": (2, "no embeddings at e.npy"),
    "search m.npy": (2, "give --text or --image"),
    "search m.npy --text a": (2, "mute has no tokenizer"),
    "search m.npy --image nowhere.png": (3, "cannot read the picture nowhere.png: No such file"),
    "search m.npy --image torn.png": (3, "cannot read the picture torn.png: not an image"),
    "score nowhere photos": (2, "no weights at nowhere"),
    "score export nowhere": (3, "nowhere is no folder"),
    "score export empty": (3, "empty has no folders"),
    "score mute photos": (2, "tokenizer"),
    "score export photos --classes nowhere.txt": (2, "nowhere.txt"),
}


def test_what_cannot_be_is_told(place: Path, run):
    (place / "empty").mkdir()
    tiny_export(place / "run" / "export")
    (place / "torn.png").write_bytes(b"torn")
    tiny_export(place / "mute", tokenizer=False)
    assert run("embed", "mute", "photos", "--to", "m.npy")[0] == 0
    for command, (code, message) in BAD.items():
        found, _, err = run(*command.split())
        assert found == code, (command, err)
        assert message in err, command
        assert "Traceback" not in err


def test_parquet_without_pyarrow_names_the_extra_and_the_way_without(place: Path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    code, _, err = run("embed", "export", "photos", "--to", "e.parquet")
    assert code == 2
    assert "pip install 'mmfound[arrow]', or name a .npy file, which needs none" in err


def scores(place: Path, run, *argv: str) -> dict[str, float]:
    code, _, err = run("score", "export", "photos", "--trainer.accelerator", "cpu", *argv)
    assert code == 0, err
    summary = json.loads((place / "runs" / "score" / place.name / "summary.json").read_text())
    return summary["metrics"]


def test_score_is_that_of_the_nearest_class_prompt(place: Path, run):
    (place / "names.txt").write_text("red square\nblue circle\n")
    found = scores(place, run, "--classes", "names.txt", "--templates", "a {}", "{}", "--batch_size", "4")
    from mmfound.batch import image_float
    from mmfound.data import Pictures
    from mmfound.data.decode import decode
    from mmfound.encoders import load_encoder

    loaded, source = load_encoder("export"), Pictures("photos")
    right = 0
    names = ["red square", "blue circle"]
    classes = []
    for name in names:
        tokens = loaded.tokenizer([f"a {name}", name])
        classes.append(loaded.encoder.embed_text(tokens["tokens"], tokens["token_mask"]).mean(dim=0))
    for index in range(10):
        image = image_float({"image": loaded.picture.transform()(decode(source[index]["image"]))[None]})["image"]
        embedding = loaded.encoder.embed_image(image)[0]
        near = [float(embedding @ (one / one.norm())) for one in classes]
        right += near.index(max(near)) == (source[index]["key"][0] == "b")
    assert found["test/zero_shot_top1"] == pytest.approx(right / 10)
    assert 0 < right < 10


def test_a_tokenizer_that_belongs_to_weights_learns_nothing_from_the_folder(place: Path, run):
    before = (place / "export" / "tokenizer.json").read_bytes()
    scores(place, run)
    assert not list((place / "runs").rglob("tokenizer.json"))
    given = TrainedBpe.learned(place / "export")
    expected = given(["a red square"])["tokens"].tolist()
    given.prepare(lambda: ["zebra"], place / "elsewhere")
    given.setup(place / "elsewhere")
    assert given(["a red square"])["tokens"].tolist() == expected
    assert (place / "export" / "tokenizer.json").read_bytes() == before


def test_what_is_only_evaluated_is_not_trained(place: Path, run):
    weights = [f"--{part}.init_args.weights=export" for part in ("model.encoder", "data.tokenizer", "data.eval_image")]
    options = ["--data.source.root", "photos", "--data.global_batch_size", "4", "--evaluators", "[]"]
    code, _, err = run("fit", "--config", "eval/score", "--run_dir", "r", *weights, *options)
    assert code == 2
    assert "Pretrained is evaluated, not trained" in err


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A state dict of open_clip's, which does not say its activation."""
    config = model_config("ViT-B-32", vocab_size=49408, context_length=77, width=64, heads=1, layers=1)
    path = tmp_path_factory.mktemp("foreign") / "clip.pt"
    torch.save(open_clip_model(config).state_dict(), path)
    return str(path)


def test_downloaded_weights_are_scored_in_one_command(place: Path, run, foreign: str):
    options = ["--run_dir", "r", "--trainer.accelerator", "cpu"]
    code, _, err = run("score", foreign, "photos", *options)
    assert code == 2
    assert "set activation to quick_gelu" in err
    code, _, err = run("score", foreign, "photos", *options, "--activation", "gelu", "--image_size", "96")
    assert code == 0, err
    assert json.loads((place / "r" / "summary.json").read_text())["metrics"]["test/zero_shot_top1"] <= 1


def test_what_was_said_of_downloaded_weights_is_kept_with_their_embeddings(place: Path, run, foreign: str):
    assert run("embed", foreign, "photos", "--to", "e.npy", "--activation", "gelu")[0] == 0
    assert json.loads((place / "e.json").read_text())["said"] == {"activation": "gelu"}
    code, out, _ = run("search", "e.npy", "--image", "photos/b/03.png", "-k", "1", "--json")
    assert code == 0
    assert json.loads(out)[0]["hits"][0]["score"] == pytest.approx(1, abs=1e-6)
    code, _, err = run("embed", foreign, "photos", "--to", "e.npy", "--activation", "quick_gelu")
    assert code == 2
    assert "said.activation: gelu -> quick_gelu" in err
