"""Training CLIP from JPEG shards, side by side with open_clip: each with its own loader, same weights, same step.

    pip install 'mmfound[bench,pretrained]' pandas psutil
    OMP_NUM_THREADS=1 python -W ignore benchmarks/clip_shards.py

Shards, crops and captions are those of benchmarks/data.py, models and steps those of benchmarks/clip.py. Rounds of the
two are interleaved; x is the median over rounds of the ratio within a round. CPU-seconds are those of the main process
and of the workers together; the loader's share is what is left of them without the steps.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import clip
import data
import torch
from torch import Tensor


class Trained:
    """An endless pipeline that trains on what it loads."""

    def __init__(self, load: Callable[[], Iterator[Any]], step: Callable[[Any], Tensor], workers: int) -> None:
        self.step, self.in_steps = step, 0.0
        self.meter = data.Meter(load, self._step, workers)

    def window(self, batches: int) -> tuple[float, float, float]:
        """Images a second, images a CPU-second, and the share of the CPU-seconds that was not spent in steps."""
        for _ in range(2 * self.meter.workers + 1):  # what was made ahead while the other one ran
            self.meter.finish(next(self.meter.batches))
        self.in_steps = 0.0
        cpu, begun = self.meter._cpu(), time.perf_counter()
        images = 0
        for _ in range(batches):
            batch = next(self.meter.batches)
            self.meter.finish(batch)
            images += len(batch["image"] if isinstance(batch, dict) else batch[0])
        spent = self.meter._cpu() - cpu
        return images / (time.perf_counter() - begun), images / spent, 1 - self.in_steps / spent

    def _step(self, batch: Any) -> None:
        begun = time.process_time()
        self.step(batch)
        self.in_steps += time.process_time() - begun


def pipelines(args: argparse.Namespace, urls: str) -> tuple[Trained, Trained]:
    """open_clip's and ours."""
    theirs, ours = clip.pair(args)
    return (
        Trained(lambda: data.open_clips(urls, args.workers, args.batch), theirs.step, args.workers),
        Trained(lambda: data.ours(urls, args.workers, batch=args.batch), ours.step, args.workers),
    )


def main() -> None:
    """Print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", choices=clip.MODELS)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    args.compile = False
    with TemporaryDirectory() as folder:
        urls = data.write_shards(Path(folder), 4, args.samples // 4, data.Photos(0))
        sides = pipelines(args, urls)
        found: list[list[tuple[float, float, float]]] = [[], []]
        for round_ in range(args.rounds):
            for which in ((0, 1), (1, 0))[round_ % 2]:
                time.sleep(2.0)  # the other's workers fill their queues and stop
                found[which].append(sides[which].window(args.batches))
    print(f"{args.model}, batch {args.batch}, {args.workers} workers, {args.precision}, {args.device}")
    print("| | images / CPU-s | x | images / s | x | loader's share |\n|---|---|---|---|---|---|")
    for name, windows in zip(("open_clip", "mmfound"), found, strict=True):
        cells = []
        for column in (1, 0):
            ratios = [mine[column] / other[column] for mine, other in zip(windows, found[0], strict=True)]
            cells += [f"{statistics.median(w[column] for w in windows):.1f}", f"{statistics.median(ratios):.2f}"]
        print(f"| {name} | " + " | ".join(cells) + f" | {statistics.median(w[2] for w in windows):.0%} |")


if __name__ == "__main__":
    main()
