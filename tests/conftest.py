"""Shared fixtures: one thread, a fixed seed, the data beside the repository."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one file, or of files that share costly runs, go to the same process of `make test`."""
    for item in items:
        shares = {"root", "stopped"} & set(getattr(item, "fixturenames", ()))
        item.add_marker(pytest.mark.xdist_group("strategies" if shares else str(item.path)))


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Leave no process group behind, nor its address, which processes started later would take for theirs."""
    before = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE")}
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder `shared/data` beside the repository; skips where it is absent."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the data sets in {folder.name}/ of the folder `shared` beside the repository")
    return folder
