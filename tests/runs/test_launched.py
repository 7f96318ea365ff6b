"""Ranks that are children of the first one end with it, and tell how they ended."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

from mmfound.runs import launched

PARENT = """
import os, subprocess, sys, time
os.environ["MMFOUND_PARENT"] = str(os.getpid())
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(child.pid, flush=True)
time.sleep(60)
"""
CHILD = """
import time
from types import SimpleNamespace
from mmfound.runs import launched
launched._GRACE_S = 0.1
launched.prepare(SimpleNamespace(strategy=SimpleNamespace(launcher=None)))
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_rank_ends_with_the_process_that_has_started_it():
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(15)  # it imports Lightning
        assert alive(child)
        parent.kill()
    deadline = time.monotonic() + 20
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(child)


def test_children_that_have_parted_kill_nobody_and_their_fate_is_known():
    codes = ["pass", "raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)", "import time; time.sleep(60)"]
    children = [subprocess.Popen([sys.executable, "-c", code]) for code in codes]
    observed = children.copy()
    trainer: Any = SimpleNamespace(global_rank=0, strategy=SimpleNamespace(launcher=SimpleNamespace(procs=observed)))
    launched.part(trainer)
    assert observed == []  # what Lightning's observer looks at
    for child in children[:3]:
        child.wait(20)
    assert launched.death(trainer) == (2, "ended with code 3")
    trainer.strategy.launcher.procs = [children[0], children[2]]
    assert launched.death(trainer) == (2, "was killed by SIGKILL")
    trainer.strategy.launcher.procs = [children[0], children[3]]
    assert launched.death(trainer) is None
    launched.end(trainer, 0.2)
    assert children[3].wait(20) == -9
