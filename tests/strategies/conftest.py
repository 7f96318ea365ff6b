"""Runs that several files of tests look at."""

from pathlib import Path

import pytest

from tests.strategies.fits import SHARDED, compiles, fit, run


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every strategy: whole; and cut off in the middle and gone on with."""
    root = tmp_path_factory.mktemp("strategies")
    fits = [fit(root / "ddp", "ddp"), fit(root / "unclipped", "ddp", "--trainer.gradient_clip_val", "null")]
    for overlay in filter(compiles, SHARDED):
        cut = root / f"{overlay}_cut"
        fits += [
            fit(root / overlay, overlay),
            fit(cut, overlay, interrupt="after_step:13:SIGTERM:1"),
            fit(cut, overlay),
        ]
    codes = run(2, fits)
    assert codes == [0, 0] + [0, 4, 0] * (len(codes) // 3), codes
    return root
