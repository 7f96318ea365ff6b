"""TarShards: samples, patterns, pickling, remote shards, and clear errors."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import fsspec
import pytest

from mmfound.data import BadSample, TarShards
from mmfound.data.remote import ShardCache
from mmfound.errors import DataError


def shard(path: Path, start: int, count: int, **more: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for n in range(start, start + count):
            meta = {"label": n % 2, "captions": [f"first {n}", f"second {n}"], "kind": "thing"}
            members = {
                "jpg": f"picture {n}".encode(),
                "txt": f"first {n}\n".encode(),
                "json": json.dumps(meta).encode(),
            }
            for extension, body in {**members, **more}.items():
                info = tarfile.TarInfo(f"{n:03d}.{extension}")
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        shard(tmp_path / f"s-{number:02d}.tar", 10 * number, 4)
    return tmp_path


def test_samples_hold_picture_captions_label_and_meta(folder: Path):
    source = TarShards(f"{folder}/s-{{00..02}}.tar")
    sample = source[5]
    assert (sample["key"], sample["image"], sample["label"]) == ("011", b"picture 11", 1)
    assert sample["captions"] == ["first 11", "second 11"]
    assert sample["meta"]["kind"] == "thing"
    assert source.stretches() == [4, 4, 4]
    assert len(list(source.captions())) == 24


def test_patterns_count_list_and_match(folder: Path):
    keys = [sample["key"] for sample in map(TarShards(f"{folder}/s-{{00..02}}.tar").__getitem__, range(12))]
    for urls in (f"{folder}/s-*.tar", f"{folder}/s-{{00,01,02}}.tar", [f"{folder}/s-0{n}.tar" for n in range(3)]):
        source = TarShards(urls)
        assert [source[n]["key"] for n in range(12)] == keys


def test_captions_of_other_fields(folder: Path):
    assert TarShards(f"{folder}/s-00.tar", captions=["kind"])[0]["captions"] == ["first 0", "thing"]


def test_a_copy_reads_the_same_and_fingerprints_follow_the_content(folder: Path):
    source = TarShards(f"{folder}/s-*.tar")
    source[0]
    assert pickle.loads(pickle.dumps(source))[7] == source[7]
    before = source.fingerprint()
    assert TarShards(f"{folder}/s-*.tar").fingerprint() == before
    shard(folder / "s-01.tar", 10, 5)
    assert TarShards(f"{folder}/s-*.tar").fingerprint() != before


def test_classes_come_from_the_manifest(folder: Path):
    (folder / "manifest.json").write_text(json.dumps({"classes": [{"class": "cat"}, {"class": "dog"}]}))
    assert TarShards(f"{folder}/s-*.tar").classes == ["cat", "dog"]


@pytest.mark.parametrize("meta", [b"not json", b"[1, 2]"])
def test_a_damaged_json_member_is_a_bad_sample(tmp_path: Path, meta: bytes):
    shard(tmp_path / "a.tar", 0, 1, json=meta)
    with pytest.raises(BadSample, match="a.tar:000"):
        TarShards(f"{tmp_path}/a.tar")[0]


def test_a_caption_that_is_not_utf8_is_read_all_the_same(tmp_path: Path):
    shard(tmp_path / "a.tar", 0, 1, txt=b"caf\xe9", json=b"{}")
    assert TarShards(f"{tmp_path}/a.tar")[0]["captions"] == ["caf\ufffd"]


@pytest.mark.parametrize("urls", ["nothing-*.tar", "s-{00..05}.tar"])
def test_missing_shards_are_named(folder: Path, urls: str):
    with pytest.raises(DataError, match="no shards at"):
        TarShards(f"{folder}/{urls}")


def test_shards_without_samples_are_refused(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w"):
        pass
    with pytest.raises(DataError, match="hold no samples"):
        TarShards(f"{tmp_path}/a.tar")


def test_remote_shards_go_through_a_cache(folder: Path, tmp_path: Path):
    memory = fsspec.filesystem("memory")
    for number in range(3):
        memory.pipe(f"/bucket/s-{number:02d}.tar", (folder / f"s-{number:02d}.tar").read_bytes())
    local = TarShards(f"{folder}/s-*.tar")
    for number, urls in enumerate(("memory://bucket/s-{00..02}.tar", "memory://bucket/s-*.tar")):
        cache = tmp_path / f"cache{number}"
        remote = TarShards(urls, cache=str(cache))
        assert [remote[n] for n in range(12)] == [local[n] for n in range(12)]
        assert len(list(cache.glob("*.tar"))) == 3


def test_the_cache_keeps_to_its_size_and_leaves_no_parts(tmp_path: Path):
    memory = fsspec.filesystem("memory")
    for number in range(4):
        memory.pipe(f"/bucket/{number}", bytes(1000))
    cache = ShardCache(tmp_path / "cache", max_bytes=2500)
    for number in range(4):
        assert cache.local(f"memory://bucket/{number}").read_bytes() == bytes(1000)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    with pytest.raises(BadSample, match="memory://bucket/nine"):
        cache.local("memory://bucket/nine")
    assert not list((tmp_path / "cache").glob("*.part"))


def test_a_remote_shard_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="memory://bucket/none.tar"):
        TarShards("memory://bucket/none.tar", cache=str(tmp_path))
