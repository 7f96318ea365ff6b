"""Losses of the first steps of the small recipes, recorded so that a change in numbers is seen.

Record anew, after a change that means to alter them: `python -m tests.recipes.golden`.
"""

import csv
import json
import platform
import tempfile
from pathlib import Path

import torch

from mmfound.cli import main

FOLDER = Path(__file__).with_name("golden")
RECIPES = ["clip/quickstart", "clip/digits", "clip/grocery"]
STEPS = 50


def machine() -> dict[str, str | int]:
    """What the last digits of a float32 sum depend on."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    capability = torch.backends.cpu.get_cpu_capability()
    return {"cpu": cpu, "capability": capability, "torch": torch.__version__, "python": platform.python_version()}


def losses(recipe: str, run_dir: Path) -> list[float]:
    """`train/loss` of the first steps in float32 at a small batch, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    small = ["--data.global_batch_size", "32", "--data.workers", "0", "--trainer.precision", "32-true"]
    short = ["--trainer.max_steps", str(STEPS), "--trainer.limit_val_batches", "0", "--trainer.log_every_n_steps", "1"]
    try:
        code = main(["fit", "--config", recipe, "--run_dir", str(run_dir), "--evaluators", "[]", *small, *short])
    finally:
        torch.set_num_threads(threads)
    assert code == 0, f"{recipe} ended with exit code {code}"
    with open(run_dir / "metrics.csv", newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


def record() -> None:
    """Write the losses of every recipe with the machine they were seen on."""
    FOLDER.mkdir(exist_ok=True)
    for recipe in RECIPES:
        with tempfile.TemporaryDirectory() as folder:
            seen = {"machine": machine(), "losses": losses(recipe, Path(folder))}
        (FOLDER / f"{recipe.replace('/', '_')}.json").write_text(json.dumps(seen, indent=1) + "\n")


if __name__ == "__main__":
    record()
