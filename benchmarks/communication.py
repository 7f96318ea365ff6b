"""Bytes that each strategy moves per optimiser step, counted on two gloo processes, and what a model says they are.

    python benchmarks/communication.py
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from collectives import Call, ring_bytes

HERE = Path(__file__).parent
RANKS, MICRO = 2, 8  # processes, and pairs of a micro-batch on each
OVERLAYS = ("ddp", "fsdp2", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3")
PRECISIONS = ("32-true", "bf16-mixed")


class Case(NamedTuple):
    """What is counted: an overlay, a precision, and the micro-batches of a step."""

    overlay: str
    precision: str = "32-true"
    micro_batches: int = 1


class Counted(NamedTuple):
    """Bytes of one optimiser step.

    Attributes:
        calls: payloads of the first process's collectives.
        sent: what its sockets have sent.
        sizes: elements of every parameter.
    """

    calls: dict[Call, float]
    sent: float
    sizes: list[int]


def count(cases: Sequence[Case], options: Sequence[str] = (), timeout_s: float = 900) -> list[Counted]:
    """Train under every case and count.

    Args:
        cases: run one after the other in the same processes.
        options: of the command line, for all of them.
        timeout_s: for all of them.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        lines = [[*_options(case, folder / f"run{number}"), *options] for number, case in enumerate(cases)]
        (folder / "cases.json").write_text(json.dumps(lines))
        _run_on_ranks([str(HERE / "counting.py"), str(folder / "cases.json"), str(folder / "out.json")], timeout_s)
        found = json.loads((folder / "out.json").read_text())
    return [Counted({Call(*words): size for *words, size in one["calls"]}, one["sent"], one["sizes"]) for one in found]


def _options(case: Case, run_dir: Path) -> list[str]:
    recipes = ["--config", str(HERE / "communication.yaml"), "--config", f"machines/{case.overlay}"]
    batch = str(RANKS * MICRO * case.micro_batches)
    words = ["--trainer.devices", str(RANKS), "--trainer.precision", case.precision, "--run_dir", str(run_dir)]
    return [*recipes, *words, "--data.global_batch_size", batch, "--data.micro_batch_size", str(MICRO)]


def _run_on_ranks(command: list[str], timeout_s: float) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = []
    for rank in range(RANKS):
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        more = {"TORCHELASTIC_RUN_ID": "benchmark", "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
        environment = {**os.environ, **more, **{name: str(value) for name, value in world.items()}}
        ranks.append(subprocess.Popen([sys.executable, "-W", "ignore", *command], env=environment))
    try:
        codes = [process.wait(timeout_s) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    if any(codes):
        raise SystemExit(f"the processes ended with {codes}")


if __name__ == "__main__":
    cases = [Case(o, p, int(k)) for o in sys.argv[1].split(",") for p in sys.argv[2].split(",") for k in sys.argv[3].split(",")]
    for case, c in zip(cases, count(cases, timeout_s=float(sys.argv[4]))):
        P = sum(c.sizes)
        print(case, P, "sent/P", c.sent / P, "ring/P", ring_bytes(c.calls, 2) / P)
        for call, size in c.calls.items():
            print("    ", *call, size, size / P)
