"""What saving costs: step time with a checkpoint every 100 steps against none, interleaved.

    python benchmarks/checkpoint.py

A model of 200 MB in float32 (600 MB with AdamW's moments) is trained on batches of `--batch` vectors; windows of 100
steps with one save and without any take turns. Reported: the median over pairs of the ratio of their times, and for how
long a save held up the training thread.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from mmfound.runs.checkpoint_io import DurableIO

MEGABYTES = 200


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="between two saves")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=None, help="of the checkpoints; a temporary one by default")
    arguments = parser.parse_args()
    model = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(MEGABYTES * 2**20 // 4 // 1024**2)))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    batch = torch.randn(arguments.batch, 1024)

    def step() -> None:
        model(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        io, ratios, waits, alone = DurableIO(), [], [], []
        for _ in range(2):
            step()
        for pair in range(arguments.pairs):
            seconds = {}
            for saves in (False, True) if pair % 2 else (True, False):
                began = time.perf_counter()
                for number in range(arguments.steps):
                    step()
                    if saves and number == 0:
                        waits.append(_save(io, model, optimizer, Path(made) / "step=00000001.ckpt"))
                if saves:
                    io.wait()
                seconds[saves] = time.perf_counter() - began
            ratios.append(seconds[True] / seconds[False])
            alone.append(seconds[False] / arguments.steps)
    step_ms, threads = statistics.median(alone) * 1000, torch.get_num_threads()
    print(f"step {step_ms:.0f} ms, one save in {arguments.steps} steps, {threads} threads")
    print(f"time with saves / without: median {statistics.median(ratios):.3f}; {[round(ratio, 3) for ratio in ratios]}")
    print(f"training thread in a save: median {statistics.median(waits) * 1000:.0f} ms")


def _save(io: DurableIO, model: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> float:
    began = time.perf_counter()
    io.save_checkpoint({"state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()]}, path)
    io.publish()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
