"""A standstill is reported once, with the place."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmfound.callbacks import Watchdog


def stuck_in_the_loader(seconds: float) -> None:
    time.sleep(seconds)


def test_a_standstill_names_the_place_and_the_silent_rank(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    trainer: Any = SimpleNamespace(global_rank=0, world_size=2)
    watchdog = Watchdog(tmp_path, after_s=0.2)
    watchdog.on_train_start(trainer, None)  # pyright: ignore[reportArgumentType]
    watchdog.on_train_batch_end()
    (tmp_path / ".ranks" / "1").touch()
    stuck_in_the_loader(1.0)
    watchdog.teardown(trainer, None, "fit")  # pyright: ignore[reportArgumentType]
    printed = capfd.readouterr().err
    assert printed.count("no batch has ended for") == 1
    assert "stuck_in_the_loader" in printed
    assert "ranks without a sign of life: 1" in printed


def test_batches_keep_it_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    trainer: Any = SimpleNamespace(global_rank=0, world_size=1)
    watchdog = Watchdog(tmp_path, after_s=0.4)
    watchdog.on_train_start(trainer, None)  # pyright: ignore[reportArgumentType]
    for _ in range(10):
        time.sleep(0.1)
        watchdog.on_train_batch_end()
    watchdog.teardown(trainer, None, "fit")  # pyright: ignore[reportArgumentType]
    assert capfd.readouterr().err == ""
