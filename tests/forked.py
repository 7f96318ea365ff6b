"""Commands in processes that need not import what takes seconds: they are forked from a server that has.

`ranks.py` uses the same server. A process has the environment that it is given, and an end of its own, as any other; it
cannot start further ranks, which would be started like the process of the tests.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path

IMPORTED = ["torch", "lightning.pytorch", "mmfound.cli.training", "mmfound.tasks"]


def server() -> ForkServerContext:
    """What processes are made with; the server starts with the first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def mmfound(
    arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """`mmfound ARGUMENTS`, with what it says and how it ends; on one rank.

    Raises:
        subprocess.TimeoutExpired: when it takes longer, and is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        process = server().Process(target=_run, args=(list(arguments), dict(environment), list(map(str, outputs))))
        process.start()
        process.join(timeout_s)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(["mmfound", *arguments], timeout_s)
        assert process.exitcode is not None
        stdout, stderr = (path.read_text() for path in outputs)
    return subprocess.CompletedProcess(["mmfound", *arguments], process.exitcode, stdout, stderr)


def _run(arguments: list[str], environment: dict[str, str], outputs: list[str]) -> None:
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv = ["mmfound", *arguments]
    from mmfound.cli import main

    sys.exit(main())
