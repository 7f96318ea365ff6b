import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmfound.batch import image_float
from mmfound.data import Pictures
from mmfound.data.decode import decode
from mmfound.embedding import EmbeddingFile
from mmfound.embedding import joining as joining_module
from mmfound.encoders import load_encoder
from mmfound.errors import ConfigError, DataError, DiskFullError, LockedError
from mmfound.runs import durable
from mmfound.runs.lock import Lock
from tests.data.pictures import Pictures as Noise
from tests.embedding.tiny import embedded, photos, tiny_export

KINDS = ["npy", "parquet"]


@pytest.fixture
def weights(tmp_path: Path) -> str:
    return tiny_export(tmp_path / "export")


@pytest.fixture
def source(tmp_path: Path) -> Pictures:
    return Pictures(photos(tmp_path / "photos"))


def rows_of(path: Path) -> np.ndarray:
    return np.concatenate([chunk for _, chunk in EmbeddingFile(path).chunks(3)])


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_embeddings_of_the_pictures_one_by_one(kind: str, tmp_path: Path, weights: str, source: Pictures):
    path = tmp_path / f"e.{kind}"
    facts = embedded(source, weights, path)
    loaded = load_encoder(weights)
    expected = []
    for index in range(len(source)):
        image = loaded.picture.transform()(decode(source[index]["image"]))
        expected.append(loaded.encoder.embed_image(image_float({"image": image[None]})["image"])[0])
    torch.testing.assert_close(torch.from_numpy(rows_of(path)), torch.stack(expected), rtol=0, atol=1e-6)
    file = EmbeddingFile(path)
    assert file.facts == facts
    assert [file.names(range(10))[row] for row in range(10)] == [(index, source[index]["key"]) for index in range(10)]
    assert file.facts["weights_sha256"] == loaded.fingerprint
    assert file.facts["source_fingerprint"] == source.fingerprint()


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_after_a_kill_at_any_moment_ends_with_the_bytes_of_an_unbroken_one(
    kind: str, tmp_path: Path, weights: str, source: Pictures, monkeypatch: pytest.MonkeyPatch
):
    live, states = tmp_path / "live", []
    live.mkdir()

    def snapshot() -> None:
        states.append(shutil.copytree(live, tmp_path / f"state{len(states)}"))

    def watched(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            snapshot()
            value = function(*args, **kwargs)
            snapshot()
            return value

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync", "unlink", "rmdir"):
            patch.setattr(os, name, watched(getattr(os, name)))
        embedded(source, weights, live / f"e.{kind}")
    whole = files_of(live)
    assert not any("parts" in name for name in whole)
    assert len(states) > 20
    left = set()
    for state in states:
        (state / f"e.{kind}.parts" / "run.lock").unlink(missing_ok=True)  # that of a process that lives, here
        said: list[str] = []
        embedded(source, weights, state / f"e.{kind}", say=said.append)
        found = {name: body for name, body in files_of(state).items() if not name.startswith(".")}
        assert found == whole
        left.update(line.split()[0] for line in said if "are left" in line)
    assert left == {"6", "2"}  # of ten, after one and two of three parts: what was finished is not made again


@pytest.mark.filterwarnings("ignore:Bad sample")
def test_bad_samples_are_left_out_counted_and_indices_stay_right(tmp_path: Path, weights: str):
    for kind in KINDS:
        path = tmp_path / f"e.{kind}"
        facts = embedded(Noise(20, bad=7), weights, path, max_bad_fraction=0.5)
        assert facts is not None
        assert (facts["rows"], facts["skipped"], facts["left_out"]) == (17, {"broken on purpose": 3}, [0, 7, 14])
        good = [index for index in range(20) if index % 7]
        names = EmbeddingFile(path).names(range(17))
        assert [names[row] for row in range(17)] == [(index, f"k{index}") for index in good]


@pytest.mark.filterwarnings("ignore:Bad sample")
def test_nothing_that_can_be_read_is_an_error(tmp_path: Path, weights: str):
    with pytest.raises(DataError, match="none of the 5 samples of .*somewhere can be read .5 broken on purpose"):
        embedded(Noise(5, bad=1), weights, tmp_path / "e.npy", max_bad_fraction=1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_and_captions(kind: str, tmp_path: Path, weights: str):
    path = tmp_path / f"e.{kind}"
    embedded(Noise(6), weights, path, side="text", dtype="float16")
    loaded = load_encoder(weights)
    tokens = loaded.tokenizer([f"caption {index}" for index in range(6)])
    expected = loaded.encoder.embed_text(tokens["tokens"], tokens["token_mask"])
    found = rows_of(path)
    assert found.dtype == np.float16
    torch.testing.assert_close(torch.from_numpy(found).float(), expected, rtol=0, atol=1e-3)


def test_captions_of_a_source_without_any_are_refused(tmp_path: Path, weights: str, source: Pictures):
    with pytest.raises(DataError, match="has no captions"):
        embedded(source, weights, tmp_path / "e.npy", side="text")


def interrupted(source: Any, weights: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave one part of three."""
    write, calls = durable.write, []

    def once(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write", once)
        with pytest.raises(KeyboardInterrupt):
            embedded(source, weights, path)


def test_going_on_with_something_else_is_refused_with_what_differs(
    tmp_path: Path, weights: str, source: Pictures, monkeypatch: pytest.MonkeyPatch
):
    path, other = tmp_path / "e.npy", tiny_export(tmp_path / "other", seed=1)
    interrupted(source, weights, path, monkeypatch)
    for finished in (False, True):
        if finished:
            embedded(source, weights, path)
        with pytest.raises(ConfigError, match="begun otherwise .dtype: float32 -> float16.; "):
            embedded(source, weights, path, dtype="float16")
        with pytest.raises(ConfigError, match="begun otherwise .weights_sha256: "):
            embedded(source, other, path)
        with pytest.raises(ConfigError, match="source_fingerprint: Pictures:10:.* -> Pictures:8"):
            embedded(Noise(8), weights, path)


def test_a_finished_file_is_said_to_be_finished_and_not_touched(tmp_path: Path, weights: str, source: Pictures):
    path, said = tmp_path / "e.npy", []
    embedded(source, weights, path)
    before = path.stat()
    assert embedded(source, weights, path, say=said.append) is None
    assert path.stat() == before
    assert "e.npy is finished: 10 embeddings" in said[0]


def test_a_damaged_part_is_made_again(tmp_path: Path, weights: str, source: Pictures, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "e.npy"
    embedded(source, weights, tmp_path / "unbroken.npy")
    interrupted(source, weights, path, monkeypatch)
    part = tmp_path / "e.npy.parts" / "000000.part"
    part.write_bytes(b"x" * part.stat().st_size)
    embedded(source, weights, path)
    assert path.read_bytes() == (tmp_path / "unbroken.npy").read_bytes()


def test_a_full_disk_loses_nothing(tmp_path: Path, weights: str, source: Pictures, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "e.npy"
    embedded(source, weights, tmp_path / "unbroken.npy")
    interrupted(source, weights, path, monkeypatch)

    def full(self: durable.Hashing, data: Any) -> int:
        self.error = OSError(errno.ENOSPC, "No space left on device")
        raise self.error

    def full_at_the_end(file: Path, fill: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable.Hashing, "write", full)
        with pytest.raises(DiskFullError, match=r"no room to write .*000001\.part"):
            embedded(source, weights, path)
    with monkeypatch.context() as patch:
        patch.setattr(joining_module, "write_whole", full_at_the_end)
        with pytest.raises(DiskFullError, match="all embeddings are in"):
            embedded(source, weights, path)
    said: list[str] = []
    embedded(source, weights, path, say=said.append)
    assert said == []  # nothing was left to embed
    assert path.read_bytes() == (tmp_path / "unbroken.npy").read_bytes()


def test_ranks_share_the_parts_and_write_the_same_file(
    tmp_path: Path, weights: str, source: Pictures, monkeypatch: pytest.MonkeyPatch
):
    embedded(source, weights, tmp_path / "alone.npy")
    said: list[str] = []
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        embedded(source, weights, tmp_path / "shared.npy", say=said.append)
    assert (tmp_path / "shared.npy").read_bytes() == (tmp_path / "alone.npy").read_bytes()
    assert [line.split()[0] for line in said if "are left" in line] == ["4", "6"]


def test_two_at_once_are_refused(tmp_path: Path, weights: str, source: Pictures, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "e.npy"
    interrupted(source, weights, path, monkeypatch)
    lock = Lock(tmp_path / "e.npy.parts").acquire()
    with pytest.raises(LockedError):
        embedded(source, weights, path)
    lock.release()


def test_what_is_in_the_way_is_not_overwritten(tmp_path: Path, weights: str, source: Pictures):
    (tmp_path / "e.npy").write_text("years of work")
    with pytest.raises(ConfigError, match="in the way"):
        embedded(source, weights, tmp_path / "e.npy")
    (tmp_path / "f.npy.parts").mkdir()
    (tmp_path / "f.npy.parts" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="in the way"):
        embedded(source, weights, tmp_path / "f.npy")


def test_an_embedding_that_is_not_finite_is_named(tmp_path: Path, source: Pictures, monkeypatch: pytest.MonkeyPatch):
    weights = tiny_export(tmp_path / "export")
    from mmfound.models import DualEncoder

    monkeypatch.setattr(DualEncoder, "embed_image", lambda self, image: torch.full((len(image), 8), float("nan")))
    with pytest.raises(DataError, match=r"the embedding of a/00\.png is not finite"):
        embedded(source, weights, tmp_path / "e.npy")


def test_a_folder_of_loose_pictures_is_read_in_the_order_of_paths(tmp_path: Path):
    for name in ("z.png", "a/deep/er.JPG", "b.txt", "m.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    source = Pictures(str(tmp_path))
    assert [source[index]["key"] for index in range(len(source))] == ["a/deep/er.JPG", "m.webp", "z.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        Pictures(str(tmp_path / "empty"))
    with pytest.raises(DataError, match="is no folder"):
        Pictures(str(tmp_path / "nowhere"))
