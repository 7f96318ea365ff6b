"""The numbers of docs/results.md for clip/grocery: CLIP, its supervised twin, raw pixels and chance, over seeds.

    python benchmarks/grocery.py --seeds 0 1 2

Each run keeps its folder below --out; a second start goes on where the first one stopped.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from mmfound.cli import main as mmfound
from mmfound.data import Resize, Source, TarShards
from mmfound.data.decode import decode

SHARDS = "../shared/data/grocery/grocery-{split}-*.tar"
CHANCE = {"fine": 1 / 81, "coarse": 1 / 42}
RUNS = [
    ("CLIP, zero-shot", "clip/grocery", "eval/grocery_zero_shot"),
    ("supervised twin", "clip/grocery_supervised", "eval/grocery_accuracy"),
]


def pixels(source: Source, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw pixels [n, 3 * side * side] in [0, 1], fine labels [n] and coarse labels [n]."""
    resize = Resize(side)
    samples = [source[index] for index in range(len(source))]
    rows = [resize(decode(sample["image"])).flatten().numpy() / np.float32(255) for sample in samples]
    coarse = [sample["meta"]["coarse_label"] for sample in samples]
    return np.stack(rows), np.array([sample["label"] for sample in samples]), np.array(coarse)


def pixel_probe(side: int) -> dict[str, float]:
    """Logistic regression on raw pixels, its C chosen on the validation split."""
    train, val, test = (pixels(TarShards(SHARDS.format(split=split)), side) for split in ("train", "val", "test"))
    coarse_of = dict(zip(train[1].tolist(), train[2].tolist(), strict=True))
    probes = [LogisticRegression(C=c, max_iter=200).fit(train[0], train[1]) for c in (1e-4, 1e-3, 1e-2, 1e-1)]
    best = max(probes, key=lambda probe: probe.score(val[0], val[1]))
    predicted = best.predict(test[0])
    coarse = np.array([coarse_of[label] for label in predicted.tolist()])
    return {"fine": float((predicted == test[1]).mean()), "coarse": float((coarse == test[2]).mean()), "C": best.C}


def run(recipe: str, overlay: str, seed: int, out: Path) -> dict[str, float]:
    """Metrics of one run on the test split, and its seconds."""
    folder = out / f"{recipe.replace('/', '_')}_{seed}"
    options = ["--run_dir", str(folder), "--seed_everything", str(seed)]
    if mmfound(["fit", "--config", recipe, *options]) != 0:
        raise SystemExit(f"{recipe} with seed {seed} failed; see {folder}")
    if mmfound(["test", "--config", recipe, "--config", overlay, *options]) != 0:
        raise SystemExit(f"testing {recipe} with seed {seed} failed; see {folder}")
    summary = json.loads((folder / "summary.json").read_text())
    return {**summary["metrics"], "seconds": summary["seconds"], "steps": summary["steps"]}


def table(name: str, fine: list[float], coarse: list[float]) -> str:
    """A row of the table: mean and standard error over seeds, in percent."""

    def cell(values: list[float]) -> str:
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return (
            f"{100 * statistics.mean(values):.1f} ± {100 * error:.1f}" if len(values) > 1 else f"{100 * values[0]:.1f}"
        )

    return f"| {name} | {cell(fine)} | {cell(coarse)} |"


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/grocery_table"))
    arguments = parser.parse_args()
    rows = ["| test split, 2,485 photos | fine, 81 classes | coarse, 42 classes |", "|---|---|---|"]
    rows.append(table("chance", [CHANCE["fine"]], [CHANCE["coarse"]]))
    probe = pixel_probe(16)
    rows.append(table("linear probe on raw pixels", [probe["fine"]], [probe["coarse"]]))
    for name, recipe, overlay in RUNS:
        runs = [run(recipe, overlay, seed, arguments.out) for seed in arguments.seeds]
        fine = [metrics["test/fine_top1"] for metrics in runs]
        coarse = [metrics["test/coarse_top1"] for metrics in runs]
        rows.append(table(name, fine, coarse))
        print(f"{recipe}: {[round(m['seconds']) for m in runs]} s, {[m['steps'] for m in runs]} steps")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
