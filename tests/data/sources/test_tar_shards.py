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


def members(path: Path, **bodies: bytes) -> str:
    with tarfile.open(path, "w") as tar:
        for name, body in bodies.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return str(path)


def test_a_picture_without_the_caption_that_others_have_is_bad(tmp_path: Path):
    source = TarShards(members(tmp_path / "a.tar", a_jpg=b"1", a_txt=b"one", b_jpg=b"2"))
    assert source[0]["captions"] == ["one"]
    with pytest.raises(BadSample, match="no caption") as caught:
        source[1]
    assert caught.value.kind == "no caption"


def test_a_labelled_picture_needs_no_caption(tmp_path: Path):
    source = TarShards(members(tmp_path / "a.tar", a_jpg=b"1", a_txt=b"one", b_jpg=b"2", b_cls=b"3\n"))
    assert source[1]["label"] == 3


def test_a_caption_without_the_picture_that_others_have_is_bad(tmp_path: Path):
    source = TarShards(members(tmp_path / "a.tar", a_jpg=b"1", a_txt=b"one", b_txt=b"two"))
    with pytest.raises(BadSample, match="no picture"):
        source[1]


def test_shards_of_texts_alone_are_a_source(tmp_path: Path):
    assert TarShards(members(tmp_path / "a.tar", a_txt=b"one", b_txt=b"two"))[1]["captions"] == ["two"]


def test_damage_does_not_stop_the_reading_of_captions(tmp_path: Path):
    deep = b"[" * 100_000
    source = TarShards(members(tmp_path / "a.tar", a_jpg=b"1", a_json=deep, b_jpg=b"2", b_txt=b"two"))
    assert list(source.captions()) == ["two"]
    with pytest.raises(BadSample, match="unreadable member"):
        source[0]


def test_a_shard_cut_after_it_was_opened_gives_bad_samples(folder: Path):
    source = TarShards(f"{folder}/s-00.tar")
    with open(folder / "s-00.tar", "r+b") as file:
        file.truncate(1024)
    with pytest.raises(BadSample, match="within the sample"):
        source[3]


@pytest.mark.parametrize("index", [-1, 12])
def test_there_is_no_sample_outside(folder: Path, index: int):
    with pytest.raises(IndexError, match="12 samples"):
        TarShards(f"{folder}/s-*.tar")[index]


def test_a_shard_that_another_process_has_removed_is_fetched_again(folder: Path, tmp_path: Path, monkeypatch):
    fsspec.filesystem("memory").pipe("/bucket/again.tar", (folder / "s-00.tar").read_bytes())
    source = TarShards("memory://bucket/again.tar", cache=str(tmp_path / "cache"))
    place = next((tmp_path / "cache").glob("*.tar"))
    local, calls = ShardCache.local, []

    def removed_the_first_time(cache: ShardCache, url: str) -> Path:
        found = local(cache, url)
        if not calls:
            place.unlink()
        calls.append(url)
        return found

    monkeypatch.setattr(ShardCache, "local", removed_the_first_time)
    assert source[0]["image"] == b"picture 0"
    assert len(calls) == 2


def test_the_shared_shards_are_read_whole(shared_data: Path):
    source = TarShards(str(shared_data / "grocery" / "grocery-val-*.tar"))
    assert (len(source), len(source.classes)) == (296, 81)
    sample = source[0]
    assert source.classes[sample["label"]] == sample["meta"]["class"]
    assert len(sample["captions"]) == 2
