"""A short version of the fault drill of `docs/reliability.md`."""

import re
import subprocess
import sys

from tests.resume import drill

FAULTS = drill.HERE.parents[1] / "benchmarks" / "faults.py"


def test_runs_broken_at_random_end_like_the_whole_one():
    kills = ["--kills", "3", "--two-ranks", "1", "--from-shell", "1"]
    counts = [*kills, "--signals", "1", "--damages", "40", "--poisons", "2"]
    command = [sys.executable, "-W", "ignore", str(FAULTS), "--seed", "1", *counts]
    done = subprocess.run(command, env=drill.environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    rows = dict(re.findall(r"^\| ([^|]+) \| (\d+ \| [^|]*) \|$", done.stdout, flags=re.MULTILINE))
    for fault, count in {"SIGKILL, one rank": 2, "SIGKILL, two ranks": 1, "SIGTERM or SIGUSR1": 1}.items():
        counted = counts_of(rows[fault])
        assert counted["resumed"] == counted["bit-equal"] == count, done.stdout + done.stderr
    assert rows["truncation or bit flip"] == "40 | detected 40, fell back 40"
    assert "ended as said 2" in rows["NaN in a batch"]
    assert "checkpoints finite 2" in rows["NaN in a batch"]
    assert re.match(r"20 \|.* executed 0\b", rows["code in a file"]), rows["code in a file"]


def counts_of(row: str) -> dict[str, int]:
    """`2 | over before 1, resumed 2` by name; the order is that in which things happened."""
    counted = [part.rsplit(" ", 1) for part in row.split("|")[1].split(",")]
    return {name.strip(): int(runs) for name, runs in counted}
