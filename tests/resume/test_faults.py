"""A short version of the fault drill of `docs/reliability.md`."""

import re
import subprocess
import sys

from tests.resume import drill

FAULTS = drill.HERE.parents[1] / "benchmarks" / "faults.py"


def test_runs_broken_at_random_end_like_the_whole_one():
    counts = ["--kills", "3", "--two-ranks", "0", "--from-shell", "1", "--signals", "2", "--damages", "40"]
    command = [sys.executable, "-W", "ignore", str(FAULTS), "--seed", "1", *counts]
    done = subprocess.run(command, env=drill.environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    rows = dict(re.findall(r"^\| ([^|]+) \| (\d+ \| [^|]*) \|$", done.stdout, flags=re.MULTILINE))
    assert re.match(r"3 \|.* bit-equal 3\b", rows["SIGKILL, one rank"]), done.stdout + done.stderr
    assert re.match(r"2 \|.* bit-equal 2\b", rows["SIGTERM or SIGUSR1"]), done.stdout + done.stderr
    assert rows["truncation or bit flip"] == "40 | detected 40, fell back 40"
