"""`mmfound doctor`, alone and on several ranks."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mmfound

FORK = """
import json, os, socket, sys
from mmfound.cli import main
import mmfound.cli.doctor.ranks
from mmfound.runs import network
children = []
for rank in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        os.environ.update(rank["variables"])
        os.chdir(rank["folder"])
        socket.gethostname = lambda: rank["host"] or os.uname().nodename
        if rank["address"]:  # that is claimed, while torch goes by the host's real name
            network.gloo_address = lambda: rank["address"]
        code = main(["doctor", "--ranks", *sys.argv[2:]])
        sys.stdout.flush()
        os._exit(code)
    children.append(child)
print("codes", [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_", "GLOO_", "NCCL_")) or name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def slurm(rank: int, ranks: int, port: str) -> dict[str, str]:
    """The variables that srun sets."""
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_STEP_NUM_TASKS": str(ranks),
        "SLURM_STEP_NODELIST": "localhost",
        "MASTER_PORT": port,
    }


def ask(*argv: str, ranks: list[dict[str, Any]]) -> str:
    """What two ranks under srun print."""
    port = free_port()
    for number, rank in enumerate(ranks):
        rank["variables"] = slurm(number, len(ranks), port) | rank.get("variables", {})
        rank.setdefault("host", "")
        rank.setdefault("address", "")
    command = [sys.executable, "-c", FORK, json.dumps(ranks), *argv]
    environment = os.environ | {"TORCH_CPP_LOG_LEVEL": "FATAL"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.stderr == ""
    return done.stdout


def lines(out: str) -> dict[str, str]:
    """What comes after the name of a check, by name, with its state before it."""
    states = ("ok", "note", "FAIL", "-")
    fields = [line.split(maxsplit=2) for line in out.splitlines() if line.split()[0] in states]
    return {name: f"{state} {text}" for state, name, text in fields}


def test_the_report_tells_of_the_cluster(run, monkeypatch: pytest.MonkeyPatch):
    for name, value in slurm(1, 4, "1234").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nope0")
    code, out, _ = run("doctor")
    assert code == 0
    assert "Slurm job 7, 1 nodes (unknown), 4 tasks, requeue " in out
    assert "--ntasks-per-node instead" in out
    assert "srun: rank 1 of 4, rank 0 at localhost:1234" in out
    assert "nope0: there is no interface 'nope0' on " in out
    assert "rename, fsync, hard links, flock work" in out


def test_the_report_names_a_folder_that_cannot_be_written(run, folder: Path):
    code, out, _ = run("doctor", "--folder", "/proc")
    assert code == 0
    assert "/proc (proc): nothing can be written" in out
    assert list(folder.iterdir()) == [folder / "recipes"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--rank"], "`mmfound doctor`: unrecognized arguments: --rank; did you mean '--ranks'?"),
        (["--ranks", "--timeout_s", "0"], "--timeout_s 0.0: it must be a number of seconds greater than 0"),
        (["--ranks", "--timeout_s", "x"], "`mmfound doctor`: argument --timeout_s: invalid float value: 'x'"),
        (["--folder", "nowhere"], "no folder 'nowhere'; --folder takes one that exists"),
        (["--data", "x"], "--data is compared over ranks: add --ranks"),
    ],
)
def test_wrong_arguments_are_one_line(argv: list[str], message: str, run):
    code, _, err = run("doctor", *argv)
    assert code == 2
    assert err.startswith(f"error: {message}")


def test_ranks_of_torchrun_work_together(tmp_path: Path):
    (tmp_path / "data").mkdir()
    command = ["torchrun", "--nproc-per-node", "2", "--master-port", free_port(), "-m", "mmfound"]
    check = ["doctor", "--ranks", "--data", "data", "--folder", str(tmp_path)]
    source = str(Path(mmfound.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", *command[1:], *check], cwd=tmp_path,
                          env=environment, capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = lines(done.stdout)
    assert found["ranks"].startswith("ok 2 of 2 answered, on ")
    assert "a sum over ranks is right" in found["gloo"]
    assert found["folder"].startswith(f"ok {tmp_path} (")
    assert found["data"] == "ok data: all see 0 entries"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_ranks_that_see_other_files_are_told_apart(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "data.tar").write_text("x")
    out = ask("--data", "data.tar", "--timeout_s", "5", ranks=[{"folder": str(tmp_path / name)} for name in "ab"])
    found = lines(out)
    assert found["gloo"].startswith("ok")
    assert found["folder"].startswith("FAIL rank 1 cannot see within 3 s")
    assert f"rank 1 looks in {tmp_path}/b" in found["folder"]
    assert found["data"].startswith("FAIL data.tar is not there for rank 1")
    assert out.splitlines()[-1] == "codes [2, 2]"


def test_an_interface_that_one_rank_lacks_is_named(tmp_path: Path):
    ranks = [{"folder": str(tmp_path)}, {"folder": str(tmp_path), "variables": {"GLOO_SOCKET_IFNAME": "nope0"}}]
    out = ask("--timeout_s", "5", ranks=ranks)
    found = lines(out)
    assert found["network"].startswith("FAIL GLOO_SOCKET_IFNAME=nope0: there is no interface 'nope0' on ")
    assert "lo (127.0.0.1)" in found["network"]
    assert "gloo" not in found
    assert found["folder"].startswith("ok")
    assert out.splitlines()[-1] == "codes [2, 2]"


def test_hosts_are_not_reached_by_loopback(tmp_path: Path):
    ranks = [{"folder": str(tmp_path), "host": host} for host in ("n1.invalid", "n2.invalid")]
    found = lines(ask("--timeout_s", "10", ranks=ranks))
    assert "on 2 hosts: n1.invalid (rank 0), n2.invalid (rank 1)" in found["ranks"]
    assert found["network"].startswith("FAIL the names of n1.invalid, n2.invalid stand for their loopback")
    assert "gloo" not in found


def test_hosts_compare_their_clocks(tmp_path: Path):
    hosts = ("n1.invalid", "n2.invalid")
    ranks = [{"folder": str(tmp_path), "host": host, "address": "10.0.0.1"} for host in hosts]
    found = lines(ask("--timeout_s", "10", ranks=ranks))
    assert found["clocks"].startswith("ok at most ")


def test_a_rank_that_never_comes_is_named(run, monkeypatch: pytest.MonkeyPatch):
    for name, value in slurm(0, 3, free_port()).items():
        monkeypatch.setenv(name, value)
    code, out, err = run("doctor", "--ranks", "--timeout_s", "0.5")
    assert (code, err) == (2, "")
    assert "1 of 3 answered" in out
    assert "not within 0.5 s: ranks 1-2\n" in out
    assert "set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME" in out


def test_a_rank_0_that_never_comes_is_named(run, monkeypatch: pytest.MonkeyPatch):
    for name, value in slurm(1, 2, free_port()).items():
        monkeypatch.setenv(name, value)
    code, out, err = run("doctor", "--ranks", "--timeout_s", "1")
    assert (code, out) == (2, "")
    assert "rank 1 on" in err
    assert "has not reached rank 0 at localhost:" in err
    assert len(err.splitlines()) == 1


def test_one_rank_alone_is_told_how_to_start_several(run):
    code, out, _ = run("doctor", "--ranks")
    assert code == 0
    assert "torchrun --nproc-per-node 2 -m mmfound doctor --ranks" in out
