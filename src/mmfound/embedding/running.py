"""Embeds what is missing, part by part, and joins.

Shape letters: B samples, E joint embedding width.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmfound.batch import image_float
from mmfound.data.bad import BadReads
from mmfound.data.loader import PassLoader
from mmfound.data.reader import ListReader, Prepare
from mmfound.data.workers import Workers, default_count
from mmfound.embedding.file import EmbeddingFile
from mmfound.embedding.job import Captions, Job, refuse_others
from mmfound.embedding.joining import facts_path, join
from mmfound.embedding.parts import Part, Parts
from mmfound.errors import ConfigError, DataError
from mmfound.files import writing
from mmfound.runs import durable, world
from mmfound.runs.lock import Lock

_WORTH_WORKERS = 2048  # samples below which starting workers takes longer than they save


def embed(
    job: Job,
    path: Path,
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    workers: int | None = None,
    max_bad_fraction: float = 0.01,
    say: Callable[[str], None] = print,
) -> dict[str, Any] | None:
    """Write the embeddings of a job, going on where an earlier start was ended; under torchrun ranks share the parts.

    Args:
        job: what to embed.
        path: the .parquet or .npy file.
        batch_size: samples per forward pass.
        device: of the forward passes.
        workers: processes that read and decode; 0 for none, by default none for few samples.
        max_bad_fraction: share of unreadable samples above which this ends.
        say: told how far it is.

    Returns:
        The facts of the finished file; None where it was finished before, and on all ranks but the first.

    Raises:
        ConfigError: when what is there was made otherwise.
        DataError: when too much cannot be read, or an embedding is not finite.
        DiskFullError: when there is no room; parts that are finished stay.
        LockedError: when another process writes the same file.
    """
    place, facts = world.from_environment(), job.facts()
    folder = path.with_name(path.name + ".parts")
    if _is_finished(path, folder):
        before = EmbeddingFile(path)
        refuse_others(path, before.facts, facts, "name another --to, or remove the file.")
        if place.rank == 0 and folder.exists():
            Parts(folder, facts).remove()
        say(f"{path} is finished: {len(before)} embeddings of these weights and samples")
        return None
    with writing(path):
        parts = Parts(folder, facts)
    with ExitStack() as at_exit:
        if place.rank == 0:
            at_exit.callback(Lock(folder).acquire().release)
            if place.ranks == 1:
                durable.sweep(folder)
        share = (place.rank, place.ranks)
        _make(job, parts, parts.missing(share), batch_size, device, workers, max_bad_fraction, say)
        if place.rank:
            return None
        parts.wait()
        found = join(parts, facts, path)
    parts.remove()
    return found


def _is_finished(path: Path, folder: Path) -> bool:
    if path.suffix == ".parquet" or not path.exists():
        return path.exists()
    if not facts_path(path).exists() and not folder.exists():
        raise ConfigError(f"{path} is in the way and not of `mmfound embed`; move it, or name another --to.")
    return facts_path(path).exists()


def batches_of(ranges: Sequence[range], size: int) -> list[np.ndarray]:
    """Indices, up to `size` at a time and no range's with another's: a part's batches are the same in every start."""
    return [np.asarray(part[at : at + size], np.int64) for part in ranges for at in range(0, len(part), size)]


@torch.inference_mode()
def _make(
    job: Job,
    parts: Parts,
    numbers: list[int],
    batch_size: int,
    device: torch.device | str,
    workers: int | None,
    max_bad_fraction: float,
    say: Callable[[str], None],
) -> None:
    if not numbers:
        return
    ranges = [parts.ranges[number] for number in numbers]
    left, total = sum(map(len, ranges)), sum(map(len, parts.ranges))
    if len(numbers) < len(parts.ranges):
        say(f"{left} of {total} samples are left to this process in {parts.folder}")
    if workers is None:
        workers = default_count(world.from_environment().ranks) if left >= _WORTH_WORKERS else 0
    prepare = Prepare(job.loaded.picture.transform())
    source = Captions(job.source) if job.side == "text" else job.source
    reader = ListReader(prepare, job.loaded.tokenizer if job.side == "text" else None, source)
    bad = BadReads(max_bad_fraction)
    loader = PassLoader(reader, batches_of(ranges, batch_size), workers=Workers(workers), bad=bad, keep=False)
    job.loaded.encoder.to(device)
    made = loader.everything()
    for done, (number, part) in enumerate(zip(numbers, ranges, strict=True), start=1):
        before = bad.by_kind.copy()
        batches = [_embedded(job, next(made), device) for _ in range(0, len(part), batch_size)]
        rows = np.concatenate([rows_BE.ravel() for rows_BE, _, _ in batches])  # of a bad batch the width is not known
        keys = [key for _, keys, _ in batches for key in keys]
        indices = [index for _, _, indices in batches for index in indices]
        rows = rows.reshape(len(keys), -1 if keys else 0)
        parts.write(number, Part(rows, keys, indices, dict(bad.by_kind - before)))
        if done % max(1, len(numbers) // 20) == 0:
            say(f"{sum(map(len, ranges[:done]))} of {left} samples embedded")
    loader.close()


def _embedded(job: Job, batch: dict[str, Any], device: torch.device | str) -> tuple[np.ndarray, list[str], list[int]]:
    if not batch["key"]:
        return np.empty((0, 0), job.dtype), [], []
    needed = "image" if job.side == "image" else "tokens"
    if needed not in batch:
        thing = "pictures" if job.side == "image" else "captions"
        raise DataError(f"{job.facts()['source']} has no {thing}; name a source that has, or the other side (--text).")
    encoder = job.loaded.encoder
    if job.side == "image":
        moved = image_float({"image": batch["image"].to(device)})
        out_BE = encoder.embed_image(moved["image"])
    else:
        out_BE = encoder.embed_text(batch["tokens"].to(device), batch["token_mask"].to(device))
    finite_B = torch.isfinite(out_BE).all(dim=1)
    if not finite_B.all():
        key = batch["key"][int((~finite_B).nonzero()[0])]
        raise DataError(f"the embedding of {key} is not finite; {job.weights} is damaged, or its run has diverged.")
    return out_BE.float().cpu().numpy().astype(job.dtype), batch["key"], batch["index"].tolist()
