"""Worker processes do not outlive a main process that is killed, and outlast a SIGTERM that it survives."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MAIN = """
import time
from mmfound.data.workers import Workers

class Pids:
    def __getitem__(self, draw):
        import os
        return os.getpid()

if __name__ == "__main__":
    loader = Workers(2, start_method={method!r}).loader(Pids(), list(range(100)), keep=True)
    batches = iter(loader)
    print(next(batches), next(batches), flush=True)
    time.sleep(60)
"""


def start(folder: Path, method: str) -> tuple[subprocess.Popen, list[int]]:
    (folder / "main.py").write_text(MAIN.format(method=method))
    process = subprocess.Popen([sys.executable, folder / "main.py"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as printed:
        return process, [int(pid) for pid in printed.readline().split()]


def stat(pid: int) -> list[str]:
    """State, parent and so on, of a process; nothing where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    return stat(pid)[:1] not in ([], ["Z"])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_end_when_the_main_process_is_killed(tmp_path: Path, method: str):
    process, workers = start(tmp_path, method)
    try:
        assert len(set(workers)) == 2
        servers = {int(stat(pid)[1]) for pid in workers} - {process.pid}
        assert len(servers) == (method == "forkserver")
        workers += servers
        for number in (signal.SIGTERM, signal.SIGUSR1):  # as a scheduler does, to all processes of a job
            for pid in workers:
                os.kill(pid, number)
        time.sleep(0.5)
        assert all(map(alive, workers))
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
