"""Tar shards by offset: what tarfile writes is found, what is damaged or hostile does no harm."""

import io
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from mmfound.data.tar_index import index_of, scan
from mmfound.errors import DataError


def write(path: Path, members: list[tuple[str, bytes]], style: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=style) as tar:
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return path


def pairs(count: int) -> list[tuple[str, bytes]]:
    return [(f"{n:04d}.{ext}", f"{ext}{n}".encode()) for n in range(count) for ext in ("jpg", "txt")]


def body(path: Path, place: np.ndarray) -> bytes:
    offset, size = place.tolist()
    return path.read_bytes()[offset : offset + size]


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("folder", ["", "some/folder/", "very/" * 24, "ünïcode/"])
def test_members_lie_where_the_index_says(tmp_path: Path, style: int, folder: str):
    shard = write(tmp_path / "a.tar", [(folder + name, data) for name, data in pairs(5)], style)
    index = scan(shard)
    assert [index.key(row) for row in range(len(index))] == [f"{folder}{n:04d}" for n in range(5)]
    assert [body(shard, index.places[row, 0]) for row in range(5)] == [f"jpg{n}".encode() for n in range(5)]
    assert [body(shard, index.places[row, 1]) for row in range(5)] == [f"txt{n}".encode() for n in range(5)]


def test_a_cut_shard_keeps_its_whole_samples_and_warns_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shard = write(tmp_path / "a.tar", pairs(4))
    shard.write_bytes(shard.read_bytes()[: 512 * 2 * 6 - 300])
    with pytest.warns(UserWarning, match="ends early"):
        index = index_of(shard)
    assert index.report.truncated
    assert len(index) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert index_of(shard).report.truncated


def test_what_comes_twice_counts_once(tmp_path: Path):
    members = [("a.jpg", b"1"), ("a.jpg", b"2"), ("b.jpg", b"3"), ("a.jpg", b"4")]
    shard = write(tmp_path / "a.tar", members)
    index = scan(shard)
    assert len(index) == 2
    assert body(shard, index.places[0, 0]) == b"1"
    assert index.report.duplicates == 2


def test_empty_pictures_are_dropped_and_missing_captions_kept(tmp_path: Path):
    index = scan(write(tmp_path / "a.tar", [("a.jpg", b""), ("a.txt", b"x"), ("b.jpg", b"1")]))
    assert [index.key(row) for row in range(len(index))] == ["b"]
    assert index.report.empty == 1
    assert index.places[0, 1].tolist() == [0, 0]


def test_links_and_unknown_members_are_ignored(tmp_path: Path):
    shard = tmp_path / "a.tar"
    with tarfile.open(shard, "w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name in ("b.pkl", "b.pyd", "c.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"1"))
    assert [scan(shard).key(0), len(scan(shard))] == ["c", 1]


def test_a_path_that_climbs_out_is_only_a_key(tmp_path: Path):
    index = scan(write(tmp_path / "a.tar", [("../../etc/passwd.jpg", b"1")]))
    assert index.key(0) == "../../etc/passwd"


def test_the_index_is_kept_and_renewed_with_the_shard(tmp_path: Path):
    shard = write(tmp_path / "a.tar", pairs(2))
    assert len(index_of(shard)) == 2
    assert (tmp_path / "a.tar.idx.npz").is_file()
    write(shard, pairs(3))
    assert len(index_of(shard)) == 3


def test_a_damaged_index_is_made_anew(tmp_path: Path):
    shard = write(tmp_path / "a.tar", pairs(2))
    index_of(shard)
    (tmp_path / "a.tar.idx.npz").write_bytes(b"PK damaged")
    assert len(index_of(shard)) == 2


def test_rubbish_is_an_empty_shard(tmp_path: Path):
    shard = tmp_path / "a.tar"
    shard.write_bytes(b"<html>" * 300)
    assert scan(shard).report.truncated
    assert len(scan(shard)) == 0


def test_a_missing_shard_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere\.tar"):
        index_of(tmp_path / "nowhere.tar")
