"""Folders that `Dataset.save_to_disk` writes are read without the `datasets` library."""

import io
import json
import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from mmfound.data.decode import decode
from mmfound.data.errors import BadSample
from mmfound.data.sources import Arrow
from mmfound.errors import DataError

COLOURS = ["red", "green", "blue"]


def saved(folder: Path, parts: int = 2) -> str:
    folder.mkdir(parents=True)
    names = [f"data-{part:05d}-of-{parts:05d}.arrow" for part in range(parts)]
    for name in names:
        rows = []
        for label, colour in enumerate(COLOURS):
            file = io.BytesIO()
            Image.new("RGB", (4, 4), colour).save(file, "PNG")
            rows.append({"image": {"bytes": file.getvalue(), "path": None}, "caption": [colour], "label": label})
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    features = {"label": {"names": COLOURS, "_type": "ClassLabel"}}
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return str(folder)


def test_samples_classes_and_captions_come_from_the_folder(tmp_path: Path):
    source = Arrow(saved(tmp_path / "d"), label="label")
    assert (len(source), source.stretches(), list(source.classes)) == (6, [3, 3], COLOURS)
    assert list(source.captions()) == COLOURS * 2
    assert (source[4]["captions"], source[4]["label"], source[4]["key"]) == (["green"], 1, "row-4")
    assert decode(source[5]["image"])[:, 0, 0].tolist() == [0, 0, 255]


def test_a_copy_reads_the_same(tmp_path: Path):
    source = Arrow(saved(tmp_path / "d"))
    copy = pickle.loads(pickle.dumps(source))
    assert copy[3] == source[3]
    assert copy.fingerprint() == source.fingerprint()
    assert len(pickle.dumps(source)) < 2000


def test_a_row_without_bytes_is_a_bad_sample(tmp_path: Path):
    with pytest.raises(BadSample, match="no picture"):
        Arrow(saved(tmp_path / "d"), image="label")[0]


def test_other_folders_and_columns_are_named(tmp_path: Path):
    with pytest.raises(DataError, match="no folder of Dataset.save_to_disk"):
        Arrow(str(tmp_path))
    with pytest.raises(DataError, match=r"no column 'captoin'.*did you mean 'caption'"):
        Arrow(saved(tmp_path / "d" / "train"), caption="captoin")
    (tmp_path / "d" / "dataset_dict.json").write_text("{}")
    with pytest.raises(DataError, match="name one of train"):
        Arrow(str(tmp_path / "d"))
    (tmp_path / "d" / "train" / "data-00000-of-00002.arrow").write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot read"):
        Arrow(str(tmp_path / "d" / "train"))
