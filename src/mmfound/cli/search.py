"""`mmfound search`: pictures by text or by picture."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmfound.cli.options import Options
from mmfound.errors import ConfigError

if TYPE_CHECKING:
    from mmfound.embedding import EmbeddingFile, Hits

USAGE = """usage: mmfound search FILE (--text "a red square" | --image PICTURE) ... [options]

The nearest embeddings in a file that `mmfound embed` wrote: rank, cosine similarity, key and path, a block per query.
--text and --image may be given several times.

options:
  -k 10               hits per query
  --weights WEIGHTS   where the weights that made the file are now, if they have moved
  --json              as JSON
  --to SHEET.png      draw the hits, too
"""


def main(argv: list[str]) -> int:
    """Search; 0, or an error."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    chosen = _parse(argv)
    if not chosen.text and not chosen.image:
        raise ConfigError("mmfound search: nothing to search for; give --text or --image")
    from mmfound.embedding import EmbeddingFile, search
    from mmfound.embedding.query import embed_queries, encoder_for

    file = EmbeddingFile(chosen.file)
    loaded = encoder_for(file, chosen.weights)
    query_QE = embed_queries(loaded, chosen.weights or file.facts["weights"], chosen.text, chosen.image)
    hits = search(file, query_QE, chosen.k)
    found = described(file, [*chosen.text, *chosen.image], hits)
    print(json.dumps(found, indent=1, ensure_ascii=False) if chosen.json else as_text(found))
    if chosen.to is not None:
        _draw(file, [hit["index"] for query in found for hit in query["hits"]], Path(chosen.to))
    return 0


def described(file: "EmbeddingFile", queries: Sequence[str], hits: Sequence["Hits"]) -> list[dict[str, Any]]:
    """What is shown of the hits, by query."""
    rows = [int(row) for one in hits for row in one.rows]
    names = file.names(rows)
    found = []
    for query, one in zip(queries, hits, strict=True):
        shown = []
        for rank, (row, score) in enumerate(zip(one.rows.tolist(), one.scores.tolist(), strict=True), start=1):
            index, key = names[row]
            path = _path(file.facts["source"], key)
            shown.append({"rank": rank, "score": round(score, 6), "key": key, "index": index, "path": path})
        found.append({"query": query, "hits": shown})
    return found


def as_text(found: Sequence[dict[str, Any]]) -> str:
    """A block per query."""
    blocks = []
    for query in found:
        width = max(len(hit["key"]) for hit in query["hits"])
        lines = [
            f"{hit['rank']:4}  {hit['score']:7.4f}  {hit['key']:<{width}}  {hit['path'] or ''}".rstrip()
            for hit in query["hits"]
        ]
        blocks.append("\n".join([query["query"], *lines]))
    return "\n\n".join(blocks)


def _path(source: Any, key: str) -> str | None:
    """Where a picture lies that has a file of its own."""
    if not isinstance(source, str):
        return None
    places = (Path(source) / key, Path(source).parent / key)
    return next((str(place) for place in places if place.is_file()), None)


def _draw(file: "EmbeddingFile", indices: list[int], out: Path) -> None:
    from mmfound.data import Subset
    from mmfound.data.tools import inspect
    from mmfound.embedding.opening import open_place

    source = open_place(file.facts["source"])
    if source.fingerprint() != file.facts["source_fingerprint"]:
        raise ConfigError(f"--to: {file.facts['source']} has changed since {file.path} was made; embed it again.")
    inspect(Subset(source, indices=indices), out, count=len(indices))
    print(f"contact sheet: {out}")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Options("search")
    parser.add_argument("file")
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--image", action="append", default=[])
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--weights")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--to")
    return parser.parse_args(argv)
