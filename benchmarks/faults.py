"""Breaks runs in every way we know, resumes them, and compares them with one that was never broken.

    python benchmarks/faults.py --seed 0

Prints a table: what was done, how often, how often the run then ended bit for bit like the whole one. Runs are those of
`tests/resume`: a shipped recipe at tiny width with dropout, augmentation, a mixture, an average of the weights and an
evaluator. Most are forked from this process, which has imported everything; `--from-shell` many begin as commands.
Kills come at random instants of training; a quarter of them wait for the next save to begin, and come within it.
"""

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "resume")]

from lightning.pytorch.utilities.rank_zero import rank_zero_only  # noqa: E402

import mmfound.cli.training  # noqa: E402,F401 - what forked runs need
from benchmarks import hostile  # noqa: E402
from mmfound.cli import main  # noqa: E402
from mmfound.runs import durable, saved  # noqa: E402
from tests.resume import drill  # noqa: E402

TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
OFTEN = ("--checkpoints.every_n_steps", "1")
FORK = ("--data.start_method", "fork")  # a fork server would import everything again
Tally = Counter[str]


class Started:
    """A run that has been started, forked from here or as a command.

    Args:
        run: its folder.
        options: beyond the drill's recipe.
        overlays: further recipes of the tests.
        ranks: processes.
        shell: start it as a command, with whatever it launches by itself.
    """

    def __init__(
        self, run: Path, options: Iterable[str], overlays: Iterable[str] = (), ranks: int = 1, shell: bool = False
    ) -> None:
        more = [*(TWO if ranks == 2 else ()), *(() if shell else FORK)]
        argv, self.log = drill.arguments(run, [*options, *more], overlays), run.with_suffix(".log")
        if shell:
            with open(self.log, "a") as log:
                command = [sys.executable, "-m", "mmfound", *argv]
                self.pid = subprocess.Popen(
                    command, env=drill.environment(), stdout=log, stderr=log, start_new_session=True
                ).pid
        else:
            self.pid = os.fork() or self._be(argv, ranks)

    def _be(self, argv: list[str], ranks: int) -> int:
        os.setsid()
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(drill.environment())
        if ranks == 2:
            _be_one_of_two()
        code = 1
        try:
            code = main(argv)
        finally:
            os._exit(code)

    def wait(self) -> int:
        """Exit code, or minus the signal's number; whatever is left of its processes is killed."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.signal_all(signal.SIGKILL)
        return code

    def is_over(self) -> bool:
        """Whether it has ended, without taking note of it."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def signal_all(self, number: int) -> None:
        """Send to all of its processes."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def other_rank(self) -> int:
        """Process of the second rank of a forked run."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()[0])

    def until_saving(self, run: Path) -> None:
        """Wait for the next save to begin, or the run's end."""
        while not any((run / saved.FOLDER).glob(".*.partial")) and not self.is_over():
            time.sleep(0.0005)

    def until_training(self, run: Path) -> None:
        """Wait for its first step, or its end."""
        while not (run / "record.0.jsonl").exists() and not self.is_over():
            time.sleep(0.005)


def _be_one_of_two() -> None:
    """Fork into two ranks that find each other as those of a launcher do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rank_zero_only.rank = 0 if os.fork() else 1
    os.environ.update(LOCAL_RANK=str(rank_zero_only.rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


class Drill:
    """The whole runs to compare with, and the seeded choice of what happens when.

    Args:
        folder: for all runs.
        seed: of the choices.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self._whole: dict[tuple[str, ...], tuple[Path, float]] = {}
        self._count = 0

    def whole(self, overlays: tuple[str, ...], ranks: int) -> tuple[Path, float]:
        """The run that is never broken, and the seconds its training takes."""
        key = (*overlays, str(ranks))
        if key not in self._whole:
            run = self.folder / f"whole.{len(self._whole)}"
            started = Started(run, self.options(), overlays, ranks)
            started.until_training(run)
            began = time.monotonic()
            if started.wait() != 0:
                raise SystemExit(started.log.read_text())
            self._whole[key] = run, time.monotonic() - began
        return self._whole[key]

    def fresh(self) -> Path:
        """A folder for the next run."""
        self._count += 1
        return self.folder / f"run.{self._count}"

    @staticmethod
    def options(workers: int = 0) -> list[str]:
        """Of the command line."""
        return [*OFTEN, "--data.workers", str(workers)]

    def resume(self, run: Path, overlays: tuple[str, ...], ranks: int, shell: bool, tally: Tally) -> None:
        """Start again, as often as it takes, and compare."""
        again = Started(run, self.options(self.random.choice((0, 2))), overlays, ranks, shell)
        code = again.wait()
        tally["resumed"] += code == 0
        whole, _ = self.whole(overlays, ranks)
        wrong = drill.differences(run, whole, ranks) if code == 0 else [again.log.read_text()[-2000:]]
        tally["bit-equal"] += not wrong
        for line in wrong[:3]:
            print(f"{run.name}: {line}", file=sys.stderr)
        if not wrong:
            shutil.rmtree(run)


def killed(d: Drill, ranks: int, shell: bool, tally: Tally) -> None:
    """SIGKILL to all processes at a random instant of training or of its start, or of a save."""
    overlays = d.random.choice(((), ("accumulate.yaml",)))
    run, (_, seconds) = d.fresh(), d.whole(overlays, ranks)
    started = Started(run, d.options(d.random.choice((0, 2))), overlays, ranks, shell)
    if d.random.random() < 0.95:
        started.until_training(run)
    time.sleep(d.random.uniform(0, seconds))
    if d.random.random() < 0.25:
        started.until_saving(run)
        time.sleep(d.random.uniform(0, 0.005))
    tally["over before"] += started.is_over()
    started.signal_all(signal.SIGKILL)
    started.wait()
    tally["runs"] += 1
    tally["inside a save"] += any((run / saved.FOLDER).glob(".*.partial"))
    tally["accumulation"] += bool(overlays)
    tally["from a shell"] += shell
    d.resume(run, overlays, ranks, shell, tally)


def asked(d: Drill, number: int, ranks: int, shell: bool, tally: Tally) -> None:
    """A signal to stop, at a random instant of training: to one process, or to every one as schedulers do."""
    overlays = d.random.choice(((), ("accumulate.yaml",)))
    run, (_, seconds) = d.fresh(), d.whole(overlays, ranks)
    started = Started(run, d.options(d.random.choice((0, 2))), overlays, ranks, shell)
    started.until_training(run)
    time.sleep(d.random.uniform(0, seconds))
    to_all = d.random.random() < 0.5
    tally["over before"] += started.is_over()
    if to_all:
        started.signal_all(number)
    elif not started.is_over():
        os.kill(started.other_rank() if ranks == 2 and not shell else started.pid, number)
    code = started.wait()
    tally["runs"] += 1
    tally["to every process"] += to_all
    tally["from a shell"] += shell
    tally[f"exit {code}"] += 1
    d.resume(run, overlays, ranks, shell, tally)


def full_disk(d: Drill, disk: Path, tally: Tally) -> None:
    """The disk fills up while it trains; what was saved stays good, and with room again it goes on."""
    run, ballast = disk / "run", disk / "ballast"
    started = Started(run, d.options(), ())
    started.log.unlink(missing_ok=True)
    started.until_training(run)
    time.sleep(d.random.uniform(0, d.whole((), 1)[1] / 2))  # later on it may have saved all that it will
    room = shutil.disk_usage(disk).free - d.random.choice((0, 4096, 100_000, 10**6))
    with open(ballast, "wb") as file:
        while room > 0:  # the run writes on meanwhile
            try:
                os.posix_fallocate(file.fileno(), 0, room)
                break
            except OSError:
                room -= 4096
    code = started.wait()
    tally["runs"] += 1
    tally[f"exit {code}"] += 1
    good, damaged = saved.newest_good(run) if saved.newest(run) else (None, [])
    tally["checkpoints intact"] += not damaged
    ballast.unlink()
    target = d.fresh()
    shutil.copytree(run, target, symlinks=True)
    shutil.rmtree(run)
    d.resume(target, (), 1, False, tally)


def damaged(d: Drill, source: Path, tally: Tally) -> None:
    """A checkpoint cut short, or one bit of it flipped: seen, and the one before it taken."""
    run = d.fresh()
    shutil.copytree(source, run, symlinks=True)
    newest = saved.newest(run)
    assert newest is not None
    content = bytearray(newest.read_bytes())
    if d.random.random() < 0.5:
        content = content[: d.random.randrange(len(content))]
    else:
        content[d.random.randrange(len(content))] ^= 1 << d.random.randrange(8)
    newest.write_bytes(content)
    good, named = saved.newest_good(run)
    tally["runs"] += 1
    tally["detected"] += bool(named)
    tally["fell back"] += good is not None and good != newest and durable.damage(good) is None
    shutil.rmtree(run)


def poisoned(d: Drill, tally: Tally) -> None:
    """A batch at a random step makes the loss NaN: each policy does what it says, and no checkpoint has a NaN."""
    run, policy = d.fresh(), d.random.choice(("stop", "skip", "rollback"))
    place = "--model.init_args.encoder.image_tower.init_args.after"
    options = [*d.options(), "--divergence.policy", policy, place, str(d.random.randint(2, 14))]
    code = Started(run, options, ["poison.yaml"]).wait()
    tally["runs"] += 1
    tally[policy] += 1
    tally["ended as said"] += code == (5 if policy == "stop" else 0)
    tally["checkpoints finite"] += all(drill.is_finite(path) for path in saved.by_step(run).values())
    shutil.rmtree(run)


def hostile_files(d: Drill, tally: Tally) -> None:
    """Code in checkpoints, exports and shards."""
    for kind, mark, use, resumed in hostile.attempts(d.whole((), 1)[0], d.folder):
        if resumed is not None:
            more = ["--trainer.max_steps", "15"]
            tally["refused"] += Started(Path(resumed[0]), [*d.options(), *more]).wait() == 2
        else:
            tally["refused"] += hostile.refused(use)
        tally["runs"] += 1
        tally[kind] += 1
        tally["executed"] += mark.exists()


def table(rows: dict[str, Tally]) -> str:
    """Markdown."""
    lines = ["| fault | runs | |", "|---|---|---|"]
    for name, tally in rows.items():
        told = ", ".join(f"{what} {count}" for what, count in tally.items() if what != "runs")
        lines.append(f"| {name} | {tally['runs']} | {told} |")
    return "\n".join(lines)


def run_all(arguments: argparse.Namespace, folder: Path) -> dict[str, Tally]:
    """Every kind of fault, as often as asked."""
    d, rows = Drill(folder, arguments.seed), {}

    def repeat(name: str, count: int, once: Callable[[int, Tally], None]) -> None:
        rows[name] = Tally()
        began = time.monotonic()
        for number in range(count):
            once(number, rows[name])
        print(f"{name}: {dict(rows[name])}, {time.monotonic() - began:.0f} s", flush=True)

    shell, two = arguments.from_shell, arguments.two_ranks
    repeat("SIGKILL, one rank", arguments.kills - two, lambda n, t: killed(d, 1, n < shell, t))
    repeat("SIGKILL, two ranks", two, lambda n, t: killed(d, 2, n < shell // 4, t))
    asks, two = (signal.SIGTERM, signal.SIGUSR1), two and arguments.signals // 5
    repeat("SIGTERM or SIGUSR1", arguments.signals - two, lambda n, t: asked(d, asks[n % 2], 1, n < shell // 2, t))
    repeat("SIGTERM or SIGUSR1, two ranks", two, lambda n, t: asked(d, asks[n % 2], 2, n < shell // 8, t))
    source = d.whole((), 1)[0]
    repeat("truncation or bit flip", arguments.damages, lambda n, t: damaged(d, source, t))
    repeat("NaN in a batch", arguments.poisons, lambda n, t: poisoned(d, t))
    repeat("code in a file", int(arguments.hostile), lambda n, t: hostile_files(d, t))
    if arguments.full_disks:
        disk = folder / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=240m", "tmpfs", str(disk)], check=True)
        try:
            repeat("full disk", arguments.full_disks, lambda n, t: full_disk(d, disk, t))
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--two-ranks", type=int, default=40, help="of the kills")
    parser.add_argument("--from-shell", type=int, default=20, help="of the kills of one rank; fewer of the rest")
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument("--damages", type=int, default=200)
    parser.add_argument("--poisons", type=int, default=40)
    parser.add_argument("--hostile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--full-disks", type=int, default=0, help="needs the right to mount a tmpfs")
    parser.add_argument("--folder", type=Path, help="of the runs; TMPDIR may then be on another file system")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        print(table(run_all(given, Path(made))))
