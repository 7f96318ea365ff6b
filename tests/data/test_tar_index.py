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


def header(name: str, kind: bytes, data: bytes, size: int | None = None) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data) if size is None else size
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "record", [b"0 a=b\n", b"1 a=b\n", b"9999999999999999999999 a=b\n", b"8 \xff\xfe=b\n", b"no number"]
)
def test_damaged_pax_records_do_no_harm(tmp_path: Path, record: bytes):
    shard = tmp_path / "a.tar"
    shard.write_bytes(header("x", b"x", record) + header("a.jpg", b"0", b"1") + bytes(1024))
    assert len(scan(shard)) == 1


@pytest.mark.parametrize("size", [b"xyz", b"-512", b"99999999999"])
def test_a_size_that_cannot_be_ends_the_shard(tmp_path: Path, size: bytes):
    record = b" size=" + size + b"\n"
    record = str(len(record) + 2).encode() + record
    shard = tmp_path / "a.tar"
    shard.write_bytes(
        header("a.jpg", b"0", b"1") + header("x", b"x", record) + header("b.jpg", b"0", b"1") + bytes(1024)
    )
    assert (len(scan(shard)), scan(shard).report.truncated) == (1, True)


def test_a_name_of_gigabytes_is_not_read(tmp_path: Path):
    shard = tmp_path / "a.tar"
    shard.write_bytes(header("a.jpg", b"0", b"1") + header("x", b"L", b"", 1 << 30))
    with open(shard, "r+b") as file:
        file.truncate(1 << 31)  # sparse
    assert (len(scan(shard)), scan(shard).report.truncated) == (1, True)


def test_folders_and_links_have_no_body_whatever_size_they_claim(tmp_path: Path):
    shard = tmp_path / "a.tar"
    shard.write_bytes(header("d/", b"5", b"", 4096) + header("a.jpg", b"0", b"1") + bytes(1024))
    assert scan(shard).key(0) == "a"


def test_a_header_with_a_wrong_checksum_ends_the_shard(tmp_path: Path):
    shard = write(tmp_path / "a.tar", pairs(3))
    data = bytearray(shard.read_bytes())
    data[1024 * 2 + 3] ^= 1
    shard.write_bytes(data)
    assert (len(scan(shard)), scan(shard).report.truncated) == (1, True)


def test_the_index_of_a_read_only_folder_is_kept_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "shards").mkdir()
    shard = write(tmp_path / "shards" / "a.tar", pairs(2))
    (tmp_path / "shards").chmod(0o555)
    try:
        assert len(index_of(shard)) == 2
        assert [path.name for path in shard.parent.iterdir()] == ["a.tar"]
        assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1
        monkeypatch.setattr("mmfound.data.tar_index.scan", lambda shard: pytest.fail("scanned again"))
        assert len(index_of(shard)) == 2
    finally:
        (tmp_path / "shards").chmod(0o755)


def test_an_index_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("mmfound.data.tar_index.np.savez", full)
    assert len(index_of(write(tmp_path / "a.tar", pairs(2)))) == 2
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.tar"]


def test_a_cut_index_is_made_anew(tmp_path: Path):
    shard = write(tmp_path / "a.tar", pairs(2))
    index_of(shard)
    kept = tmp_path / "a.tar.idx.npz"
    kept.write_bytes(kept.read_bytes()[:200])
    assert len(index_of(shard)) == 2


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b" + bytes(range(256)) * 4])
def test_what_is_no_tar_file_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match="no uncompressed tar file"):
        index_of(tmp_path / "a.tar")
