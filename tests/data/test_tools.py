"""`mmfound data`: a sheet can be looked at, every damaged sample is named, packed shards hold the same samples."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmfound.data import Digits, Shapes, TarShards
from mmfound.data.decode import decode
from mmfound.data.tools import inspect, main, pack, verify


def test_inspect_draws_the_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", "shapes", "--out", str(tmp_path / "sheet.png"), "--count", "6"]) == 0
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * 248, 4 * 192, 3)
    assert sheet[:192, :192].std() > 5
    assert "samples: 1000" in capsys.readouterr().out


def test_inspect_shows_damage_instead_of_failing(tmp_path: Path):
    source = _with_damage(tmp_path)
    assert inspect(source, tmp_path / "sheet.png")["samples"] == 4


def test_verify_names_every_damaged_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = verify(_with_damage(tmp_path))
    assert [index for index, _ in found.damaged] == [1, 3]
    assert found.by_kind == {"not an image": 1, "truncated or damaged": 1}
    assert verify(_with_damage(tmp_path), workers=2).damaged == found.damaged
    assert main(["verify", str(tmp_path / "classes"), "--workers", "1"]) == 3
    out = capsys.readouterr().out
    assert "a/1.png" in out
    assert "4 samples, 2 damaged" in out


def test_packed_shards_hold_the_same_samples(tmp_path: Path):
    source = Shapes(25, objects=(1, 1))
    shards = pack(source, tmp_path / "out", shard_size=10)
    assert len(shards) == 3
    packed = TarShards(f"{tmp_path}/out/*.tar")
    assert list(packed.classes) == list(source.classes)
    for index in (0, 9, 10, 24):
        assert packed[index]["captions"] == source[index]["captions"]
        assert packed[index]["label"] == source[index]["label"]
        assert np.array_equal(decode(packed[index]["image"]).permute(1, 2, 0).numpy(), source[index]["image"])


def test_packing_twice_gives_the_same_bytes(tmp_path: Path):
    first = pack(Digits(split="val"), tmp_path / "a")
    second = pack(Digits(split="val"), tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_damaged_samples_are_left_out_and_counted(tmp_path: Path):
    shards = pack(_with_damage(tmp_path), tmp_path / "out")
    assert len(TarShards(str(shards[0]))) == 2
    assert '"left_out": 2' in (tmp_path / "out" / "manifest.json").read_text()


def _with_damage(tmp_path: Path):
    from mmfound.data import ClassFolders

    folder = tmp_path / "classes" / "a"
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for number in range(4):
        Image.fromarray(noise).save(folder / f"{number}.png")
    (folder / "1.png").write_bytes(b"<html>")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:-700])
    return ClassFolders(str(tmp_path / "classes"))
