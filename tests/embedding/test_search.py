import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mmfound.embedding import EmbeddingFile, search
from mmfound.embedding.joining import escaped, join, unescaped
from mmfound.embedding.parts import Part, Parts
from mmfound.errors import ConfigError, DataError

KINDS = ["npy", "parquet"]


def written(path: Path, rows: np.ndarray, part_size: int = 50, **changes: object) -> EmbeddingFile:
    """A file of these rows."""
    facts = {"format": 1, "weights": "w", "weights_sha256": "x", "source": "nowhere"}
    facts |= {"samples": len(rows), "part_size": part_size}
    facts |= {"dtype": str(rows.dtype), **changes}
    parts = Parts(path.with_name(path.name + ".parts"), facts)
    for number, indices in enumerate(parts.ranges):
        parts.write(number, Part(rows[indices.start : indices.stop], [f"k{i}" for i in indices], list(indices), {}))
    join(parts, facts, path)
    return EmbeddingFile(path)


def unit(count: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("chunk_bytes", [1, 16 * 8 * 7, 2**27])
def test_hits_are_those_of_brute_force(kind: str, dtype: str, chunk_bytes: int, tmp_path: Path):
    rows, query_QE = unit(203, 16).astype(dtype), unit(3, 16, seed=1)
    file = written(tmp_path / f"e.{kind}", rows)
    score_QN = (query_QE.astype(np.float64) @ rows.astype(np.float64).T).astype(np.float32)
    for hits, score_N in zip(search(file, query_QE, 9, chunk_bytes), score_QN, strict=True):
        order = sorted(range(203), key=lambda row: (-score_N[row], row))[:9]
        assert hits.rows.tolist() == order
        np.testing.assert_array_equal(hits.scores, score_N[order])


@pytest.mark.parametrize("chunk_bytes", [1, 16 * 8 * 7, 2**27])
def test_equal_rows_come_in_the_order_of_the_file(chunk_bytes: int, tmp_path: Path):
    rows = unit(60, 16)
    rows[[50, 3, 31, 7, 59]] = query = unit(1, 16, seed=2)
    file = written(tmp_path / "e.npy", rows)
    (hits,) = search(file, query, 4, chunk_bytes)
    assert hits.rows.tolist() == [3, 7, 31, 50]
    assert len(set(hits.scores.tolist())) == 1


def test_more_hits_than_rows_are_all_rows(tmp_path: Path):
    (hits,) = search(written(tmp_path / "e.npy", unit(5, 16)), unit(1, 16, seed=1), 10)
    assert sorted(hits.rows.tolist()) == [0, 1, 2, 3, 4]


def test_search_takes_less_memory_than_the_file(tmp_path: Path):
    file = written(tmp_path / "e.npy", unit(40_000, 64), part_size=40_000)  # 10 MB
    query_QE = unit(2, 64, seed=1)
    tracemalloc.start()
    search(file, query_QE, 10, chunk_bytes=2**18)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_queries_of_another_width_and_no_hits_are_refused(tmp_path: Path):
    file = written(tmp_path / "e.npy", unit(5, 16))
    with pytest.raises(ConfigError, match="width 16, and the query's is 8"):
        search(file, unit(1, 8), 3)
    with pytest.raises(ConfigError, match="-k 0 asks for no hits"):
        search(file, unit(1, 16), 0)


@pytest.mark.parametrize("key", ["a.png", "a\nb", "a\\nb", "a\\", "\r\n\\\\n", "日本"])
def test_a_key_is_one_line_and_comes_back(key: str):
    assert "\n" not in escaped(key)
    assert "\r" not in escaped(key)
    assert unescaped(escaped(key)) == key


def test_what_is_no_file_of_ours_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="no embeddings at .*nowhere.npy; make them first"):
        EmbeddingFile(tmp_path / "nowhere.npy")
    np.save(tmp_path / "mine.npy", unit(3, 4))
    with pytest.raises(ConfigError, match="mine.json is missing"):
        EmbeddingFile(tmp_path / "mine.npy")
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        EmbeddingFile(tmp_path / "mine.npy")
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(ConfigError, match="does not say its"):
        EmbeddingFile(tmp_path / "mine.npy")
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="neither .parquet nor .npy"):
        EmbeddingFile(tmp_path / "mine.txt")
    (tmp_path / "mine.parquet").write_text("x")
    with pytest.raises(DataError, match="damaged"):
        EmbeddingFile(tmp_path / "mine.parquet")


def test_another_version_and_a_cut_file_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="has format 2, and this mmfound reads 1"):
        written(tmp_path / "e.parquet", unit(5, 4), format=2)
    file = written(tmp_path / "e.npy", unit(5, 4))
    facts = json.loads((tmp_path / "e.json").read_text())
    (tmp_path / "e.json").write_text(json.dumps(facts | {"rows": 6}))
    with pytest.raises(DataError, match=r"holds float32 \[5, 4\], but e.json says float32 \[6, 4\]"):
        search(EmbeddingFile(file.path), unit(1, 4), 1)
    (tmp_path / "e.json").write_text(json.dumps(facts))
    file.path.write_bytes(file.path.read_bytes()[:-8])
    with pytest.raises(DataError, match="damaged"):
        search(EmbeddingFile(file.path), unit(1, 4), 1)
