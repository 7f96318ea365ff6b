"""What runs have left behind, read for comparing."""

import csv
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from mmfound.strategies.whole import whole_checkpoint

CLOCK = ("train/samples_per_second", "train/data_wait_share")


def metric(run: Path, name: str) -> list[float]:
    """All values of a metric, in the order of the steps."""
    with open(run / "metrics.csv") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def log(run: Path) -> list[dict[str, str]]:
    """Every row of the log, but for the clock's columns."""
    with open(run / "metrics.csv") as file:
        return [{name: value for name, value in row.items() if name not in CLOCK} for row in csv.DictReader(file)]


def losses(run: Path) -> dict[int, str]:
    """Every micro-batch's loss on the first rank by position in the stream, in hexadecimal, as computed last."""
    lines = (run / "record.0.jsonl").read_text().splitlines()
    seen = (json.loads(line) for line in lines if line)
    return {one["position"]: one["loss"] for one in seen}


def last(run: Path, step: int = 20) -> dict[str, Any]:
    """The checkpoint of a step, put together."""
    return whole_checkpoint(run / "checkpoints" / f"step={step:08d}.ckpt")


def exported(run: Path) -> dict[str, Any]:
    """The weights in the export."""
    return load_file(run / "export" / "module.safetensors")


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())
