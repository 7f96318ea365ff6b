"""A rank that hangs because another one has failed is ended."""

import subprocess
import sys
from pathlib import Path

from mmfound.runs import summary

MAIN = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from mmfound.runs import failing
from mmfound.runs.agreement import Agreement
failing._LOOK_S, failing._PATIENCE_S = 0.1, 0.5
trainer = SimpleNamespace(world_size=2, global_rank=0, strategy=SimpleNamespace(launcher=None))
callback = failing.Failing(Path(sys.argv[1]), Agreement())
callback.setup(trainer, None, "fit")
if sys.argv[2] == "ends":
    callback.teardown(trainer, None, "fit")
time.sleep(5)
"""


def hang(run: Path, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", MAIN, run, how], capture_output=True, text=True, timeout=60)


def test_a_rank_that_hangs_ends_with_the_others_code(tmp_path: Path):
    summary.write(tmp_path, {summary.FAILED_RANK: 1, "exit_code": 3, "exit_reason": "DataError: no 3.tar"})
    done = hang(tmp_path, "hangs")
    assert done.returncode == 3
    assert done.stderr == "error: rank 1 has failed: DataError: no 3.tar\n"
    assert hang(tmp_path, "ends").returncode == 0


def test_a_rank_does_not_end_for_its_own_failure_or_an_old_one(tmp_path: Path):
    summary.write(tmp_path, {summary.FAILED_RANK: 0, "exit_code": 3, "exit_reason": "its own"})
    assert hang(tmp_path, "hangs").returncode == 0
    summary.write(tmp_path, {summary.FAILED_RANK: 1, "exit_code": 3, "exit_reason": "before"})
    summary.begin(tmp_path)
    assert hang(tmp_path, "hangs").returncode == 0
