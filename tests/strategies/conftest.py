"""Runs that several files of tests look at."""

from pathlib import Path

import pytest

from tests.strategies.fits import CUT, SHARDED, compiles, fit, run


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every strategy: whole; and, but for stage 1, whose code is stage 2's, cut off and gone on with."""
    root = tmp_path_factory.mktemp("strategies")
    fits = [fit(root / "ddp", "ddp"), fit(root / "unclipped", "ddp", "--trainer.gradient_clip_val", "null")]
    for overlay in filter(compiles, SHARDED):
        fits.append(fit(root / overlay, overlay))
    for overlay in filter(compiles, CUT):
        cut = root / f"{overlay}_cut"
        fits += [fit(cut, overlay, interrupt="after_step:13:SIGTERM:1"), fit(cut, overlay)]
    codes = run(2, fits)
    stopped = 2 * sum(map(compiles, CUT))
    assert codes == [0] * (len(codes) - stopped) + [4, 0] * (stopped // 2), codes
    return root
