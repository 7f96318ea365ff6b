"""One Slurm for all tests of this folder, and the run that nothing interrupts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import loopback
from tests.cluster.loopback import Slurm
from tests.resume import drill

TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.workers", "0")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Skips where it cannot run."""
    obstacle = loopback.obstacle()
    if obstacle:
        pytest.skip(obstacle)
    with loopback.running(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks that nothing interrupts, without Slurm."""
    run = tmp_path_factory.mktemp("whole") / "run"
    done = drill.fit(run, *TWO)
    assert done.returncode == 0, done.stderr
    return run
