"""`mmfound data`: a sheet can be looked at, every damaged sample is named, packed shards hold the same samples."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmfound.data import ClassFolders, Digits, ParquetImages, Shapes, Table, TarShards
from mmfound.data.decode import decode
from mmfound.data.tools import inspect, main, open_source, pack, verify
from mmfound.errors import ConfigError


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
    folder = tmp_path / "classes" / "a"
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for number in range(4):
        Image.fromarray(noise).save(folder / f"{number}.png")
    (folder / "1.png").write_bytes(b"<html>")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:-700])
    return ClassFolders(str(tmp_path / "classes"))


def test_workers_find_the_same_damage(tmp_path: Path):
    folder = tmp_path / "many" / "a"
    folder.mkdir(parents=True)
    picture = io.BytesIO()
    Image.new("RGB", (2, 2)).save(picture, "PNG")
    for number in range(300):
        (folder / f"{number:03d}.png").write_bytes(b"<html>" if number in (7, 299) else picture.getvalue())
    source = ClassFolders(str(tmp_path / "many"))
    assert verify(source, workers=2) == verify(source)
    assert [index for index, _ in verify(source).damaged] == [7, 299]


def test_inspect_says_what_the_samples_are_like(tmp_path: Path):
    facts = inspect(Shapes(8, size=32), tmp_path / "sheet.png", count=4)
    assert facts["width x height"] == "32x32 (4)"
    assert facts["damaged among them"] == 0
    damaged = inspect(_with_damage(tmp_path), tmp_path / "sheet.png", start=3)
    assert damaged["damaged among them"] == 1


def test_inspect_of_nothing_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="start 9 and count 16 of 8 samples"):
        inspect(Shapes(8), tmp_path / "sheet.png", start=9)


def test_packing_over_other_shards_is_refused(tmp_path: Path):
    pack(Digits(split="val"), tmp_path, shard_size=50)
    with pytest.raises(ConfigError, match="already holds shards"):
        pack(Digits(split="val"), tmp_path)
    with pytest.raises(ConfigError, match="shard_size is 0"):
        pack(Digits(split="val"), tmp_path / "other", shard_size=0)


def test_an_interrupted_pack_leaves_no_shard(tmp_path: Path):
    class Dying(Digits):
        def __getitem__(self, index: int):
            if index == 5:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        pack(Dying(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_packed_pictures_are_shrunk_when_asked(tmp_path: Path):
    assert main(["pack", "shapes", "--out", str(tmp_path), "--size", "16", "--shard_size", "500"]) == 0
    packed = TarShards(f"{tmp_path}/*.tar")
    assert len(packed) == 1000
    assert packed[0]["image"][:2] == b"\xff\xd8"
    assert min(decode(packed[0]["image"]).shape[1:]) == 16


def test_pictures_of_several_views_are_packed_as_they_are(tmp_path: Path):
    (tmp_path / "in" / "a").mkdir(parents=True)
    view = Image.new("RGB", (8, 8))
    view.save(tmp_path / "in" / "a" / "1.jpg", "MPO", save_all=True, append_images=[view])
    pack(ClassFolders(str(tmp_path / "in")), tmp_path / "out")
    assert TarShards(f"{tmp_path}/out/*.tar")[0]["image"] == (tmp_path / "in" / "a" / "1.jpg").read_bytes()


def test_a_parquet_file_is_opened_by_what_it_holds(tmp_path: Path):
    picture = io.BytesIO()
    Image.new("RGB", (4, 4)).save(picture, "PNG")
    (tmp_path / "1.png").write_bytes(picture.getvalue())
    for name, image in (("inside", picture.getvalue()), ("paths", "1.png")):
        pq.write_table(pa.table({"image": [image], "caption": ["x"]}), tmp_path / f"{name}.parquet")
    assert isinstance(open_source(f"{tmp_path}/inside.parquet"), ParquetImages)
    assert isinstance(open_source(f"{tmp_path}/paths.parquet"), Table)
