"""Runs the command line several times in the same two processes: starting one costs more than a short run."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from mmfound.cli import main
from mmfound.runs import extensions
from tests.ranks import run_on_ranks

RESUME = Path(__file__).parents[1] / "resume"
TINY = Path(__file__).with_name("tiny.yaml")
COMMAND = ["--config", "clip/digits", "--config", str(RESUME / "drill.yaml"), "--config", str(TINY)]

OFFLOAD = "deepspeed_zero3_offload"
SHARDED = ["fsdp2", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3", OFFLOAD]
CUT = [overlay for overlay in SHARDED if overlay != "deepspeed_zero1"]

Fit = tuple[Sequence[str], Mapping[str, str]]  # options, environment


def command_line(fits: Sequence[Fit]) -> list[int]:
    """Exit codes of commands, one after the other, on every rank of a group."""
    sys.path[:0] = [str(RESUME), str(TINY.parent)]
    os.environ.update(TORCHELASTIC_RUN_ID="tests", OMP_NUM_THREADS="1", DS_ACCELERATOR="cpu")
    codes = []
    for options, environment in fits:
        before = dict(os.environ)
        os.environ.update(environment)
        fill = "DIRTY_MEMORY" in environment  # with NaN what torch.empty returns
        torch.use_deterministic_algorithms(fill, warn_only=True)
        codes.append(main(options))
        os.environ.clear()
        os.environ.update(before)
    return codes


def run(ranks: int, fits: Sequence[Fit]) -> list[int]:
    """The exit codes of the first rank, which are those of all."""
    codes = run_on_ranks(ranks, command_line, [(list(options), dict(env)) for options, env in fits])
    assert all(other == codes[0] for other in codes)
    return codes[0]


def fit(run_dir: Path, overlay: str, *options: str, interrupt: str = "", ranks: int = 2) -> Fit:
    """One fit of the drill's recipe under an overlay of `recipes/machines`."""
    words = [*COMMAND, "--config", f"machines/{overlay}", "--trainer.accelerator", "cpu"]
    words += ["--trainer.devices", str(ranks), "--run_dir", str(run_dir), *options]
    return ["fit", *words], {"DRILL": interrupt}


def compiles(overlay: str) -> bool:
    return overlay != OFFLOAD or extensions.missing_compiler() is None


def compiled(overlay: str) -> None:
    """Skip, or fail where everything has to be tested, what cannot be compiled here."""
    if not compiles(overlay):
        assert "MMFOUND_TEST_ALL" not in os.environ, extensions.missing_compiler()
        pytest.skip(f"{overlay} compiles: {extensions.missing_compiler()}")
