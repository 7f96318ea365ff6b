"""Runs the drill recipe in processes of its own and compares what they leave, by bytes."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.forked import mmfound

HERE = Path(__file__).parent
LAST = "checkpoints/step=00000014.ckpt"
_RATES = ("train/samples_per_second", "train/data_wait_share")  # the clock's


def fit(
    run: Path,
    *options: str,
    interrupt: str = "",
    sabotage: str = "",
    overlays: Sequence[str] = (),
    launch: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Start a run, or go on with it.

    Args:
        run: its folder.
        options: beyond the drill's recipe.
        interrupt: WHERE:STEP:WHAT[:RANK], see `parts.Interrupt`.
        sabotage: what resuming has to do without, see `parts`.
        overlays: further recipes of this folder.
        launch: arguments of Python that call mmfound; by default `-m mmfound`, where that starts further ranks.
    """
    words, env = arguments(run, options, overlays), environment(interrupt, sabotage)
    if not launch and "--trainer.devices" not in options:
        return mmfound(words, env, timeout_s=300)
    command = [sys.executable, *(launch or ("-m", "mmfound")), *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


def arguments(run: Path, options: Iterable[str], overlays: Iterable[str] = ()) -> list[str]:
    """Of the command `mmfound`."""
    recipes = ["clip/digits", *(str(HERE / name) for name in ("drill.yaml", *overlays))]
    configs = [word for name in recipes for word in ("--config", name)]
    return ["fit", *configs, "--run_dir", str(run), *options]


def environment(interrupt: str = "", sabotage: str = "") -> dict[str, str]:
    """In which the drill's parts can be imported."""
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    drill = {"DRILL": interrupt, "DRILL_SABOTAGE": sabotage, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return {**os.environ, **drill}


def differences(run: Path, whole: Path, ranks: int = 1, last: str = LAST) -> list[str]:
    """What differs between a run and one that was never interrupted; nothing when they are the same."""
    found = []
    one, other = (torch.load(folder / last, weights_only=True) for folder in (run, whole))
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "ema", "global_step"):
        found += [f"{key}{place}" for place in _unlike(one.get(key), other.get(key))]
    one, other = (_loader_state(checkpoint) for checkpoint in (one, other))
    found += [f"loader{place}" for place in _unlike(one, other)]
    for rank in range(ranks):
        found += [f"rank {rank}: {line}" for line in _unlike_records(record(run, rank), record(whole, rank))]
    found += [f"metrics.csv{place}" for place in _unlike(rows(run), rows(whole))]
    return found + [f"events{place}" for place in _unlike(events(run), events(whole))]


def is_finite(path: Path) -> bool:
    """Whether a checkpoint's weights are free of NaN and infinity."""
    weights = torch.load(path, weights_only=True)["state_dict"].values()
    return len(weights) > 0 and all(bool(weight.isfinite().all()) for weight in weights)


def summary(run: Path) -> dict[str, Any]:
    """How the run ended, by its own account."""
    return json.loads((run / "summary.json").read_text())


def _unlike(one: Any, other: Any, place: str = "") -> list[str]:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return [] if same and one.numpy().tobytes() == other.numpy().tobytes() else [place]
    if isinstance(one, dict) and isinstance(other, dict):
        parts = [_unlike(one.get(name), other.get(name), f"{place}.{name}") for name in one.keys() | other.keys()]
        return [line for part in parts for line in part]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return [line for n, pair in enumerate(zip(one, other, strict=True)) for line in _unlike(*pair, f"{place}[{n}]")]
    return [] if one == other else [f"{place}: {one!r:.80} != {other!r:.80}"]


def _loader_state(checkpoint: dict[str, Any]) -> Any:
    return checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]


def record(run: Path, rank: int) -> list[dict[str, Any]]:
    """What `parts.Record` has written: a line per micro-batch, but for those that a full disk has cut."""
    lines = (run / f"record.{rank}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def _unlike_records(one: list[dict[str, Any]], whole: list[dict[str, Any]]) -> list[str]:
    """Every micro-batch ever computed must be the whole run's at that position, and none is missing."""
    expected = {line["position"]: line for line in whole}
    wrong = [f"trained on another batch: {line}" for line in one if line != expected[line["position"]]]
    missing = expected.keys() - {line["position"] for line in one}
    return wrong + [f"never trained on the batch before {position}" for position in sorted(missing)]


def events(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars that TensorBoard shows, but for what the clock says."""
    shown = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    names = [name for name in shown.Tags()["scalars"] if name not in _RATES]
    return {name: [(event.step, event.value) for event in shown.Scalars(name)] for name in names}


def rows(run: Path) -> list[dict[str, str]]:
    """What `metrics.csv` holds, but for what the clock says."""
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name not in _RATES} for row in rows]
