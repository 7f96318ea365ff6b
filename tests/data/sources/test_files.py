"""Tables, folders, annotation files and torchvision data sets as sources."""

import csv
import io
import json
import os
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torch.utils.data import Dataset

from mmfound.data import BadSample, ClassFolders, CocoCaptions, FewShotSplit, ParquetImages, Table, Torchvision, Vqa2
from mmfound.data.decode import decode
from mmfound.errors import ConfigError, DataError

COLOURS = ["red", "green", "blue", "white"]


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for colour in COLOURS:
        (tmp_path / "pictures" / f"{colour}.png").write_bytes(png(colour))
    return tmp_path


def rows() -> list[dict[str, str]]:
    return [{"file": f"pictures/{c}.png", "text": f'a "{c}", picture', "kind": c} for c in COLOURS]


def write_table(path: Path) -> str:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows()) + "\n")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows()), path)
    else:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, ["file", "text", "kind"], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows())
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_table_reads_the_same(pictures: Path, suffix: str):
    source = Table(write_table(pictures / f"t{suffix}"), image="file", caption="text", label="kind")
    assert list(source.classes) == sorted(COLOURS)
    assert list(source.captions()) == [row["text"] for row in rows()]
    for index, colour in enumerate(COLOURS):
        sample = source[index]
        assert sample["captions"] == [f'a "{colour}", picture']
        assert source.classes[sample["label"]] == colour
        assert decode(sample["image"]).float().mean((1, 2)).tolist() == list(
            Image.new("RGB", (1, 1), colour).getpixel((0, 0))
        )


def test_a_missing_column_is_named_with_the_nearest(pictures: Path):
    with pytest.raises(DataError, match=r"no column 'flie'.*did you mean 'file'"):
        Table(write_table(pictures / "t.csv"), image="flie", caption="text")


def test_tables_of_nothing_and_of_missing_files_are_refused(tmp_path: Path):
    (tmp_path / "t.csv").write_text("image,caption\n")
    with pytest.raises(DataError, match="names no pictures"):
        Table(str(tmp_path / "t.csv"))
    (tmp_path / "t.csv").write_text("image,caption\nnowhere.png,x\n")
    with pytest.raises(DataError, match=r"none is there.*nowhere\.png"):
        Table(str(tmp_path / "t.csv"))
    with pytest.raises(DataError, match=r"cannot read .*gone\.csv"):
        Table(str(tmp_path / "gone.csv"))
    with pytest.raises(ConfigError, match="it reads"):
        Table(str(tmp_path / "t.xlsx"))


def test_a_picture_that_goes_missing_later_is_a_bad_sample(pictures: Path):
    source = Table(write_table(pictures / "t.csv"), image="file", caption="text")
    (pictures / "pictures" / "red.png").unlink()
    with pytest.raises(BadSample, match=r"red\.png"):
        source[0]


def test_parquet_with_the_pictures_inside(tmp_path: Path):
    for number in range(2):
        part = [{"image": {"bytes": png(c)}, "caption": [c, f"a {c} one"], "label": i} for i, c in enumerate(COLOURS)]
        pq.write_table(pa.Table.from_pylist(part), tmp_path / f"{number}.parquet", row_group_size=3)
    source = ParquetImages(str(tmp_path), label="label")
    assert len(source) == 8
    assert source.stretches() == [3, 1, 3, 1]
    assert [source[n]["label"] for n in range(8)] == [0, 1, 2, 3] * 2
    assert source[6]["captions"] == ["blue", "a blue one"]
    with pytest.raises(DataError, match="no column 'labl'"):
        ParquetImages(str(tmp_path), label="labl")


def test_class_folders_count_in_alphabetical_order(tmp_path: Path):
    for name in ("zebra", "ant"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "1.PNG").write_bytes(png("red"))
        (tmp_path / name / "notes.md").write_text("no picture")
    source = ClassFolders(str(tmp_path), template="a photo of a {}")
    assert [(source[n]["key"], source[n]["label"]) for n in range(2)] == [
        ("ant/deep/1.PNG", 0),
        ("zebra/deep/1.PNG", 1),
    ]
    assert source[1]["captions"] == ["a photo of a zebra"]
    with pytest.raises(DataError, match="3 classes given"):
        ClassFolders(str(tmp_path), classes=["a", "b", "c"])


def test_a_folder_without_classes_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="has no folders, so no classes"):
        ClassFolders(str(tmp_path))
    with pytest.raises(DataError, match="is no folder"):
        ClassFolders(str(tmp_path / "gone"))


def test_coco_captions_are_grouped_by_picture(pictures: Path):
    images = [{"id": n, "file_name": f"{colour}.png"} for n, colour in enumerate(COLOURS)]
    notes = [{"image_id": n % 3, "caption": f" caption {n} "} for n in range(6)]
    (pictures / "captions.json").write_text(json.dumps({"images": images, "annotations": notes}))
    source = CocoCaptions(str(pictures / "captions.json"), str(pictures / "pictures"))
    assert len(source) == 3
    assert source[1]["captions"] == ["caption 1", "caption 4"]
    (pictures / "wrong.json").write_text("{}")
    with pytest.raises(DataError, match="has no 'images'"):
        CocoCaptions(str(pictures / "wrong.json"), str(pictures / "pictures"))


def test_vqa2_joins_questions_and_answers(pictures: Path):
    questions = [{"question_id": 7, "image_id": 1, "question": "which colour?"}]
    answers = [{"question_id": 7, "answers": [{"answer": "green"}] * 9 + [{"answer": "lime"}]}]
    (pictures / "q.json").write_text(json.dumps({"questions": questions}))
    (pictures / "a.json").write_text(json.dumps({"annotations": answers}))
    (pictures / "pictures" / "000001.png").write_bytes(png("green"))
    arguments = (str(pictures / "q.json"), str(pictures / "a.json"), str(pictures / "pictures"))
    sample = Vqa2(*arguments, file_name="{:06d}.png")[0]
    assert sample["meta"] == {"question": "which colour?", "answers": ["green"] * 9 + ["lime"], "question_id": 7}


def test_few_shots_are_drawn_per_class_by_the_seed(pictures: Path):
    part = [[f"{COLOURS[n % 4]}.png", n % 2, ("warm_one", "cold")[n % 2]] for n in range(8)]
    (pictures / "split.json").write_text(json.dumps({"train": part, "val": part[:2], "test": part[:2]}))
    arguments = (str(pictures / "split.json"), str(pictures / "pictures"))
    source = FewShotSplit(*arguments, shots=2, seed=3)
    assert sorted(source[n]["label"] for n in range(len(source))) == [0, 0, 1, 1]
    assert source.fingerprint() == FewShotSplit(*arguments, shots=2, seed=3).fingerprint()
    assert source[0]["captions"] == ["a photo of a warm one."]
    assert len(FewShotSplit(*arguments)) == 8


class Labelled(Dataset):
    classes = ("cat", "dog")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int):
        return Image.new("L", (4, 4), 10 * index), index


def test_torchvision_data_sets_become_samples():
    source = Torchvision(Labelled(), template="one {}")
    sample = source[1]
    assert (sample["label"], sample["captions"]) == (1, ["one dog"])
    assert np.array_equal(sample["image"], np.full((4, 4, 3), 10, np.uint8))


def test_a_data_set_of_something_else_is_refused():
    class Boxes(Labelled):
        def __getitem__(self, index: int):
            return Image.new("L", (4, 4)), {"boxes": []}

    with pytest.raises(DataError, match="gives a dict beside each picture"):
        Torchvision(Boxes())


def test_fashion_mnist_reads_through_torchvision(shared_data: Path, tmp_path: Path):
    import gzip

    from torchvision.datasets import FashionMNIST

    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in (shared_data / "fashion_mnist_idx" / "FashionMNIST" / "raw").glob("t10k-*.gz"):
        (raw / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
        (raw / packed.stem.replace("t10k", "train")).write_bytes(gzip.decompress(packed.read_bytes()))
    source = Torchvision(FashionMNIST(str(tmp_path), train=False))
    assert len(source) == 10_000
    assert source[0]["captions"] == [f"a photo of a {source.classes[source[0]['label']]}"]


def test_pipes_and_names_that_no_file_has_are_bad_samples(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png("red"))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "t.jsonl").write_text(
        "\n".join(json.dumps({"image": name, "caption": "x"}) for name in ("a.png", "pipe.png", "b\0.png"))
    )
    source = Table(str(tmp_path / "t.jsonl"))
    assert source[0]["captions"] == ["x"]
    for index in (1, 2):
        with pytest.raises(BadSample, match="missing file"):
            source[index]


def test_a_row_without_a_caption_is_a_bad_sample(pictures: Path):
    (pictures / "t.csv").write_text("image,caption\npictures/red.png,red\npictures/blue.png,\n")
    source = Table(str(pictures / "t.csv"))
    assert source[0]["captions"] == ["red"]
    with pytest.raises(BadSample, match="no caption"):
        source[1]


def test_row_groups_are_kept_up_to_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    part = [{"image": png(c), "caption": c} for c in COLOURS]
    pq.write_table(pa.Table.from_pylist(part), tmp_path / "t.parquet", row_group_size=1)
    reads: list[int] = []
    read = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda s, g, **k: (reads.append(g), read(s, g, **k))[1])
    roomy = ParquetImages(str(tmp_path / "t.parquet"))
    assert [roomy[n]["captions"] for n in (0, 3, 0, 3)] == [["red"], ["white"]] * 2
    assert reads == [0, 3]
    tight = ParquetImages(str(tmp_path / "t.parquet"), group_bytes=1)
    assert [tight[n]["captions"] for n in (0, 3, 0)] == [["red"], ["white"], ["red"]]
    assert reads == [0, 3, 0, 3, 0]


def test_a_row_without_its_picture_is_a_bad_sample(tmp_path: Path):
    pq.write_table(pa.table({"image": pa.array([png("red"), None]), "caption": ["a", "b"]}), tmp_path / "t.parquet")
    with pytest.raises(BadSample, match="no picture"):
        ParquetImages(str(tmp_path / "t.parquet"))[1]


def test_shots_are_those_of_one_generator_that_draws_train_and_then_val(pictures: Path):
    def part(count: int) -> list[list[object]]:
        return [[f"{COLOURS[n % 4]}.png", n % 2, f"{n}"] for n in range(count)]

    split = {"train": part(40), "val": part(20), "test": part(12)}
    (pictures / "split.json").write_text(json.dumps(split))
    arguments = (str(pictures / "split.json"), str(pictures / "pictures"))
    random.seed(2)
    expected = [
        random.sample([row for row in split[p] if row[1] == label], k)
        for p, k in (("train", 8), ("val", 4))
        for label in (0, 1)
    ]
    for name, groups in (("train", expected[:2]), ("val", expected[2:])):
        source = FewShotSplit(*arguments, split=name, shots=8, seed=2, template="{}")
        assert list(source.captions()) == [row[2] for group in groups for row in group]
    assert len(FewShotSplit(*arguments, split="test", shots=8)) == 12
