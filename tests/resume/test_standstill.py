"""A run that stands still says where, within a minute by default, and here sooner."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.resume import drill
from tests.resume.test_exit_codes import TWO


def soon(folder: Path, run: Path) -> str:
    """An overlay that makes the watchdog impatient."""
    watchdog = {"class_path": "mmfound.callbacks.Watchdog", "init_args": {"run": str(run), "after_s": 3}}
    path = folder / "soon.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"callbacks+": [watchdog]}}))
    return str(path)


def test_a_loader_that_hangs_before_the_first_batch_is_named(tmp_path: Path):
    run = tmp_path / "run"
    hangs = [
        "--data.workers",
        "0",
        "--data.augment",
        '[{"class_path": "parts.HangsOnce", "init_args": {"seconds": 8}}]',
    ]
    done = drill.fit(run, *hangs, overlays=[soon(tmp_path, run)])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no batch has ended for") == 1
    assert "the first one takes longer" in done.stderr
    assert "in _rest_of_pass" in done.stderr
    assert "time.sleep(self.seconds)" in done.stderr


def test_a_rank_that_does_not_answer_is_named(tmp_path: Path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "mmfound", *drill.arguments(run, TWO, [soon(tmp_path, run)])]
    env = drill.environment("in_step:3:SIGSTOP:1")
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while "without a sign of life: 1" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            assert process.poll() is None
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(120) == 0
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
    assert "The main thread is at" in (tmp_path / "log").read_text()
