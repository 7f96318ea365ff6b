"""The nearest rows of a file of embeddings, in bounded memory.

Shape letters: Q queries, N rows, E joint embedding width, K hits.
"""

from dataclasses import dataclass

import numpy as np

from mmfound.embedding.file import EmbeddingFile
from mmfound.errors import ConfigError

CHUNK_BYTES = 2**27  # of rows as float64


@dataclass(frozen=True)
class Hits:
    """The nearest rows of one query, best first; of equal ones that which comes first in the file.

    Args:
        rows: [K] int64.
        scores: [K] float32 cosine similarities.
    """

    rows: np.ndarray
    scores: np.ndarray


def search(file: EmbeddingFile, query_QE: np.ndarray, k: int, chunk_bytes: int = CHUNK_BYTES) -> list[Hits]:
    """The k nearest rows to each query.

    Scores are computed in float64 and rounded to float32, so that equal rows score equally wherever they stand.

    Args:
        file: searched once, for all queries.
        query_QE: of unit length.
        k: at least 1; fewer hits come back from a shorter file.
        chunk_bytes: most memory for rows at a time.

    Raises:
        ConfigError: when the queries are of another width than the file, or k is too small.
    """
    width = file.facts["embed_dim"]
    if query_QE.shape[1] != width:
        raise ConfigError(f"{file.path} holds embeddings of width {width}, and the query's is {query_QE.shape[1]}.")
    if k < 1:
        raise ConfigError(f"-k {k} asks for no hits; give 1 or more.")
    query_EQ = query_QE.T.astype(np.float64)
    best = [Hits(np.empty(0, np.int64), np.empty(0, np.float32)) for _ in query_QE]
    for start, chunk in file.chunks(max(1, chunk_bytes // (8 * width))):
        score_QN = (chunk.astype(np.float64) @ query_EQ).astype(np.float32).T
        best = [_merged(hits, start, score_N, k) for hits, score_N in zip(best, score_QN, strict=True)]
    return best


def _merged(hits: Hits, start: int, score_N: np.ndarray, k: int) -> Hits:
    rows = np.arange(len(score_N))
    if len(rows) > k:
        rows = np.flatnonzero(score_N >= np.partition(score_N, -k)[-k])
    scores = np.concatenate([hits.scores, score_N[rows]])
    rows = np.concatenate([hits.rows, rows + start])
    order = np.lexsort((rows, -scores))[:k]
    return Hits(rows[order], scores[order])
