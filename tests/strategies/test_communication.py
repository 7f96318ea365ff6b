"""What DDP and ZeRO 3 move on two processes is what the model in benchmarks/traffic.py says."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SHALLOW = [
    f"--model.init_args.encoder.{name}.depth" for name in ("image_tower.init_args.options", "text_tower.init_args")
]


def test_counted_bytes_are_those_of_the_model(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import communication  # pyright: ignore[reportMissingImports]

    cases = [communication.Case("ddp", micro_batches=2), communication.Case("deepspeed_zero3", "bf16-mixed")]
    options = [word for name in SHALLOW for word in (name, "1")]
    for case, counted in zip(cases, communication.count(cases, options, timeout_s=200), strict=True):
        moved = communication.differences(case, counted)
        assert len(moved) >= 4, "weights, embeddings forward and backward, and what the sockets have sent"
        assert moved == pytest.approx(dict.fromkeys(moved, 0.0), abs=communication.TOLERANCE), case
