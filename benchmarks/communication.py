"""Bytes that each strategy moves per optimiser step, counted on two gloo processes, next to what a model says.

    python benchmarks/communication.py            # counts: the table of docs/benchmarks.md
    python benchmarks/communication.py --modelled # the tables of docs/communication.md

Counted twice: the payload of every collective, and what the kernel says that the process's sockets have sent.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

from collectives import Call
from scaling import tables
from traffic import GLOO, OVERLAYS, REUSE, RING, Part, Setup, payloads, sent, size

HERE = Path(__file__).parent
RANKS, MICRO, EMBED_DIM = 2, 8, 128  # processes, pairs of a micro-batch on each, and E of communication.yaml
PRECISIONS = ("32-true", "bf16-mixed")
TOLERANCE = 0.01


class Case(NamedTuple):
    """What is counted: an overlay, a precision, the micro-batches of a step, and DeepSpeed's own settings."""

    overlay: str
    precision: str = "32-true"
    micro_batches: int = 1
    zero: tuple[tuple[str, int | bool], ...] = ()

    @property
    def setup(self) -> Setup:
        """For the model."""
        zero, half = dict(self.zero), self.precision != "32-true"
        reuse = int(zero.get("stage3_max_reuse_distance", REUSE))
        to_owners = not zero.get("use_multi_rank_bucket_allreduce", True)
        ahead = zero.get("stage3_prefetch_bucket_size") != 0
        return Setup(RANKS, MICRO, self.micro_batches, half, False, reuse, ahead, to_owners)


class Counted(NamedTuple):
    """Bytes of one optimiser step.

    Attributes:
        calls: payloads of the first process's collectives.
        sent: what its sockets have sent.
        network: what was trained.
    """

    calls: dict[Call, float]
    sent: float
    network: list[Part]

    def of(self, purpose: str) -> dict[Call, float]:
        """The payloads with one purpose."""
        return {call: whole for call, whole in self.calls.items() if call.purpose == purpose}


LATE = (("stage3_prefetch_bucket_size", 0),)
FEW = tuple((f"stage3_max_{name}", 1_500_000) for name in ("live_parameters", "reuse_distance"))
ALL = [
    *(Case(overlay, precision, k) for overlay in OVERLAYS for precision in PRECISIONS for k in (1, 2)),
    Case("deepspeed_zero3", zero=(*LATE, ("stage3_max_reuse_distance", 0))),
    Case("deepspeed_zero3", zero=(*LATE, *FEW)),
    Case("deepspeed_zero3", zero=FEW),
    Case("deepspeed_zero2", zero=(("use_multi_rank_bucket_allreduce", False),)),
]


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
        _run_on_ranks(
            [str(HERE / "counting.py"), str(folder / "cases.json"), str(folder / "out.json")], folder, timeout_s
        )
        found = json.loads((folder / "out.json").read_text())
    return [_counted(one) for one in found]


def differences(case: Case, counted: Counted) -> dict[str, float]:
    """How far what was counted is from the model, as a share of it: by kind and purpose, and what was sent."""
    model = payloads(case.overlay, counted.network, EMBED_DIM, case.setup)
    calls = {call: whole for call, whole in counted.calls.items() if call.purpose != "control"}
    found = {"/".join(call): calls.get(call, 0) / model.get(call, 1) - 1 for call in {**calls, **model}}
    on_the_wire = counted.sent / sent(model, RANKS, GLOO) - 1
    return found if isnan(on_the_wire) else {**found, "sent": on_the_wire}


def row(case: Case, counted: Counted) -> str:
    """A line of the table, in units of the parameters but for the last columns."""
    elements = size(counted.network)

    def cell(purpose: str) -> str:
        moved = (f"{_name(call)} {whole / elements:.2f}" for call, whole in counted.of(purpose).items())
        return ", ".join(moved) or "-"

    embeddings, control = (sum(counted.of(purpose).values()) for purpose in ("embeddings", "control"))
    model = payloads(case.overlay, counted.network, EMBED_DIM, case.setup)
    wire = [counted.sent, sent(counted.calls, RANKS, GLOO), sent(model, RANKS, GLOO)]
    name = ", ".join([case.overlay, *(f"{key}: {value}".lower() for key, value in case.zero)])
    weights = [cell("gradients"), cell("parameters"), f"{embeddings:,.0f}", f"{control:,.0f}"]
    sums = ["-" if isnan(total) else f"{total / elements:.3f}" for total in (*wire, sent(counted.calls, RANKS, RING))]
    return "| " + " | ".join([name, case.precision, str(case.micro_batches), *weights, *sums]) + " |"


def main() -> None:
    """Print a table; fail where the model is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modelled", action="store_true", help="count nothing; predict for more GPUs")
    if parser.parse_args().modelled:
        print(tables())
        return
    found = count(ALL)
    heads = "overlay|precision|micro-batches|gradients|parameters|embeddings|control|sent|by calls|by model|in a ring"
    print(f"{size(found[0].network):,} parameters; bytes per parameter, embeddings and control in bytes")
    print(f"| {' | '.join(heads.split('|'))} |\n{'|---' * 11}|")
    wrong = []
    for case, counted in zip(ALL, found, strict=True):
        print(row(case, counted))
        wrong += [f"{case}: {name} {by:+.1%}" for name, by in differences(case, counted).items() if abs(by) > TOLERANCE]
    if wrong:
        raise SystemExit("\n".join(["the model is wrong:", *wrong]))


def _name(call: Call) -> str:
    return call.kind.replace("_", "-")


def _counted(one: dict[str, Any]) -> Counted:
    calls = {Call(*words): whole for *words, whole in one["calls"]}
    return Counted(calls, one["sent"], [Part(tuple(shape), in_block) for shape, in_block in one["network"]])


def _options(case: Case, run_dir: Path) -> list[str]:
    recipes = ["--config", str(HERE / "communication.yaml"), "--config", f"machines/{case.overlay}"]
    batch = str(RANKS * MICRO * case.micro_batches)
    words = ["--trainer.devices", str(RANKS), "--trainer.precision", case.precision, "--run_dir", str(run_dir)]
    if case.zero:
        words += ["--trainer.strategy.init_args.config", json.dumps({"zero_optimization": dict(case.zero)})]
    return [*recipes, *words, "--data.global_batch_size", batch, "--data.micro_batch_size", str(MICRO)]


def _run_on_ranks(command: list[str], folder: Path, timeout_s: float) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = {"TORCHELASTIC_RUN_ID": "benchmark", "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    ranks = []
    with open(folder / "log", "w") as log:
        for rank in range(RANKS):
            place = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(RANKS),
                "LOCAL_WORLD_SIZE": str(RANKS),
            }
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            words = [sys.executable, "-W", "ignore", *command]
            environment = {**os.environ, **more, **place, **meeting}
            ranks.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))
        try:
            codes = [process.wait(timeout_s) for process in ranks]
        finally:
            for process in ranks:
                process.kill()
    if any(codes):
        raise SystemExit(f"{(folder / 'log').read_text()}\nthe processes ended with {codes}")


if __name__ == "__main__":
    main()
