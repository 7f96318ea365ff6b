"""A Slurm of three nodes on this host, which only this host can reach, for as long as the tests run."""

import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "setpriv", "unshare")
PACKAGES = "slurm-wlm and munge"  # of Debian and Ubuntu
CONFIGURATION = """
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
GresTypes=gpu
KillWait=15
ReturnToService=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=2
"""
NODE = "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=1000 Gres=gpu:4\n"
NODES = ("n1", "n2", "n3")
_ON_LOCALHOST = ("unshare", "--uts", "sh", "-ec", 'hostname localhost; exec setpriv --pdeathsig TERM "$@"', "sh")


class Slurm:
    """Its commands.

    Args:
        folder: of its configuration and of what jobs print.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def __call__(self, *command: str, check: bool = True) -> str:
        """Run a command of Slurm and return what it prints."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        assert not (check and done.returncode), done.stderr
        return done.stdout.strip()

    def submit(self, *arguments: str | Path, **env: str) -> str:
        """`sbatch` from where `mmfound` is found; the job's number."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        # All nodes are this host, which does not know their names.
        job = {"PATH": path, "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", **env}
        command = ["sbatch", "--parsable", f"--output={self.folder}/%j.out", *map(str, arguments)]
        done = subprocess.run(command, env={**self.env, **job}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def facts(self, job: str) -> dict[str, str]:
        """What Slurm tells of a job."""
        return dict(re.findall(r"(\w+)=(\S*)", self("scontrol", "show", "job", "--oneliner", job)))

    def printed(self, job: str) -> str:
        """What a job has printed, in all of its starts."""
        path = self.folder / f"{job}.out"
        return path.read_text() if path.exists() else ""

    def wait(self, job: str, *states: str, within_s: float = 120) -> dict[str, str]:
        """Wait for a job to come to one of the states; its facts."""
        deadline = time.monotonic() + within_s
        while (facts := self.facts(job))["JobState"] not in states:
            assert time.monotonic() < deadline, f"{facts}\n{self.printed(job)}"
            time.sleep(0.2)
        return facts

    def start_now(self, job: str) -> None:
        """Let a requeued job start; Slurm waits for two minutes."""
        self.wait(job, "PENDING")
        self("scontrol", "update", f"JobId={job}", "StartTime=now")

    def fail(self, node: str) -> None:
        """Mark a node down, and wait until its jobs have ended on the others; Slurm would wait for two minutes."""
        self("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
        wait_for(lambda: self.states() == ["down" if name == node else "idle" for name in NODES], self.folder)

    def mend(self, node: str) -> None:
        """Take a node that was marked down back."""
        self("scontrol", "update", f"NodeName={node}", "State=RESUME")
        wait_for(self.is_up, self.folder)

    def is_up(self) -> bool:
        """Whether all nodes are there for jobs."""
        return self.states() == ["idle"] * len(NODES)

    def states(self) -> list[str]:
        """Of the nodes."""
        return self("sinfo", "--noheader", "--Node", "--partition=main", "--format=%t", check=False).split()


def obstacle() -> str:
    """Why it cannot run here; empty where it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        return f"no {', '.join(missing)} here; install the Debian packages {PACKAGES}"
    if subprocess.run([*_ON_LOCALHOST, "true"], capture_output=True).returncode:
        return "root is needed, with the right to another host name (`unshare --uts`)"
    return ""


@contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """Within, it runs; its daemons end with this process, in whatever way that does."""
    first, *others = _free_ports(1 + len(NODES))
    nodes = [NODE.format(name=name, port=port) for name, port in zip(NODES, others, strict=True)]
    configuration = folder / "slurm.conf"
    configuration.write_text("".join(nodes) + CONFIGURATION.format(port=first, folder=folder, user=_user()))
    for number in range(4):
        (folder / f"gpu{number}").touch()  # Slurm hands them out; nobody opens them
    (folder / "gres.conf").write_text(f"NodeName={','.join(NODES)} Name=gpu File={folder}/gpu[0-3]\n")
    for name in ("state", *NODES):
        (folder / name).mkdir()
    slurm = Slurm(folder)
    with ExitStack() as daemons:
        _start(daemons, "munged", "--foreground", *_munge(folder))
        wait_for(lambda: (folder / "munge.socket").exists(), folder)
        _start(daemons, "slurmctld", "-D", "-c", "-f", str(configuration), log=folder / "slurmctld.log")
        for node in NODES:
            _start(daemons, "slurmd", "-D", "-N", node, "-f", str(configuration), log=folder / f"slurmd.{node}.log")
        wait_for(slurm.is_up, folder)
        daemons.callback(_end_jobs, slurm)
        yield slurm


def _munge(folder: Path) -> list[str]:
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    places = {"key-file": key, "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munged.seed"}
    return ["--force", f"--log-file={folder}/munged.log", *(f"--{name}={folder / at}" for name, at in places.items())]


def _start(daemons: ExitStack, *command: str, log: Path | None = None) -> None:
    """A daemon in the foreground, on a host of the name localhost, which is all that it listens on."""
    with open(log or os.devnull, "w") as out:
        env = {**os.environ, "PATH": _path()}
        process = subprocess.Popen([*_ON_LOCALHOST, *command], stdout=out, stderr=out, env=env, start_new_session=True)
    daemons.callback(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_jobs(slurm: Slurm) -> None:
    with suppress(AssertionError, subprocess.TimeoutExpired):
        slurm("scancel", f"--user={_user()}")
        deadline = time.monotonic() + 30
        while slurm("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.2)


def wait_for(happened: Callable[[], bool], folder: Path) -> None:
    """Wait half a minute; the daemons' logs where it does not happen."""
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        free = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in free:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in free]


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _user() -> str:
    return getpass.getuser()
