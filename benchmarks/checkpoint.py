"""What saving costs: the time that a save adds to the steps around it, as a share of those between two saves.

    python benchmarks/checkpoint.py

A model of 200 MB in float32 (600 MB with AdamW's moments) is trained on batches of `--batch` vectors. Windows of steps
with one save and without any take turns; two checkpoints stay, as in a run. Reported: the median over pairs of windows
of the time that the save has added, and for how long it held up the training thread; apart, the first saves of a
process, which touch fresh memory.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from mmfound.runs import durable
from mmfound.runs.checkpoint_io import DurableIO

MEGABYTES, WARM_UP = 200, 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=100, help="between two saves")
    parser.add_argument("--window", type=int, default=20, help="steps that are timed, more than a save lasts")
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

    for _ in range(3):
        step()
    added, held, alone = [], [], []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        io, saves = DurableIO(), Path(made)
        for pair in range(arguments.pairs):
            without = timed(step, arguments.window)
            held.append(save(io, model, optimizer, saves / f"step={pair:08d}.ckpt"))
            added.append(held[-1] + timed(step, arguments.window) - without)
            alone.append(without / arguments.window)
            io.settle()
            if io.error is not None:
                raise io.error
            durable.remove(saves / f"step={pair - 2:08d}.ckpt")
    step_s, threads = statistics.median(alone), torch.get_num_threads()
    print(f"step {step_s * 1000:.0f} ms, batch {arguments.batch}, {threads} threads, {arguments.pairs} pairs")
    for name, part in {"first": slice(WARM_UP), "later": slice(WARM_UP, None)}.items():
        seconds = statistics.median(added[part])
        share = seconds / (arguments.steps * step_s)
        print(
            f"{name} saves: {seconds:.2f} s added each, {share:.1%} of {arguments.steps} steps, "
            f"training thread held up for {statistics.median(held[part]) * 1000:.0f} ms"
        )
    print("seconds added:", *(f"{seconds:.2f}" for seconds in added))


def timed(step: Callable[[], None], count: int) -> float:
    """Seconds that steps take."""
    began = time.perf_counter()
    for _ in range(count):
        step()
    return time.perf_counter() - began


def save(io: DurableIO, model: nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> float:
    """Seconds until training goes on."""
    began = time.perf_counter()
    io.save_checkpoint({"state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()]}, path)
    io.publish()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
