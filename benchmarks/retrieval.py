"""Recall of 10,000 pictures and 50,000 captions: in chunks against the whole matrix; equality, memory, CPU seconds.

Embeddings are small integers, so that every product is exact in float32 and both ways see the same ties.

Run: python benchmarks/retrieval.py [--images 10000] [--captions 5] [--width 512] [--threads 2]
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from typing import Any

import numpy as np
import torch
from scipy.stats import hypergeom
from torch import Tensor

from mmfound.metrics import retrieval_recall

KS = (1, 5, 10)


def pairs(images: int, captions: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Integer embeddings where captions are noisy copies of their pictures, in random order."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(-4, 5, (images, width), generator=generator).float()
    image_of_text = torch.arange(images).repeat_interleave(captions)
    image_of_text = image_of_text[torch.randperm(len(image_of_text), generator=generator)]
    noise = torch.randint(-28, 29, (len(image_of_text), width), generator=generator).float()
    return image, image[image_of_text] + noise, image_of_text


def brute_force(image: Tensor, text: Tensor, image_of_text: Tensor) -> list[float]:
    """From the whole matrix in numpy: the chance that a positive is among the k best when ties are drawn."""
    score, owner = (image @ text.T).numpy(), image_of_text.numpy()
    found = []
    for side, positives in (
        (score, [np.flatnonzero(owner == row) for row in range(len(image))]),
        (score.T, owner[:, None]),
    ):
        hits = np.zeros(len(KS))
        for row, right in zip(side, positives, strict=True):
            best = row[right].max()
            above, level = int((row > best).sum()), int((row == best).sum())
            tied = int((row[right] == best).sum())
            hits += [1 - hypergeom.pmf(0, level, tied, min(max(k - above, 0), level)) for k in KS]
        found += (hits / len(positives)).tolist()
    return found


def ours(image: Tensor, text: Tensor, image_of_text: Tensor) -> list[float]:
    """In chunks."""
    recall = retrieval_recall(image, text, image_of_text, KS)
    return [*recall.image_to_text.values(), *recall.text_to_image.values()]


def measure(way: str, path: str, threads: int, results: Any) -> None:
    """Put (recalls, CPU seconds, wall seconds, peak MiB beyond the embeddings)."""
    torch.set_num_threads(threads)
    image, text, image_of_text = torch.load(path)
    ours(image[:8], text[:8], torch.arange(8))  # loads kernels
    before, wall, cpu = peak_mib(), time.perf_counter(), time.process_time()
    recalls = (ours if way == "chunked" else brute_force)(image, text, image_of_text)
    results.put((recalls, time.process_time() - cpu, time.perf_counter() - wall, peak_mib() - before))


def peak_mib() -> float:
    """Most memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Print a row per way, each from a process of its own, and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--captions", type=int, default=5)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    context, recalls = multiprocessing.get_context("spawn"), {}
    print(f"{arguments.images} pictures, {arguments.images * arguments.captions} captions, width {arguments.width}")
    print(f"{'way':<12}{'CPU s':>8}{'wall s':>8}{'peak MiB':>10}  R@1, 5, 10 image to text, text to image")
    with tempfile.NamedTemporaryFile() as file:
        torch.save(pairs(arguments.images, arguments.captions, arguments.width), file.name)
        for way in ("chunked", "brute force"):
            results = context.SimpleQueue()
            process = context.Process(target=measure, args=(way, file.name, arguments.threads, results))
            process.start()
            recalls[way], cpu, wall, peak = results.get()
            process.join()
            print(f"{way:<12}{cpu:>8.1f}{wall:>8.1f}{peak:>10.0f}  {', '.join(f'{r:.5f}' for r in recalls[way])}")
    print(f"largest difference: {np.abs(np.subtract(*recalls.values())).max():.2e}")


if __name__ == "__main__":
    main()
