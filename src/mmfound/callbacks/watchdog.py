"""Says where a run hangs."""

import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

_FOLDER = ".ranks"


class Watchdog(Callback):
    """Reports, once per standstill, the stack of the main thread when no batch ends for a while, and silent ranks.

    Every rank touches a file in the run folder while its process lives; the first one names those that do not.

    Args:
        run: the run folder.
        after_s: seconds without a batch that count as a standstill.
    """

    def __init__(self, run: Path, after_s: float = 45.0) -> None:
        self.folder = run / _FOLDER
        self.after_s = after_s
        self._rank, self._world = 0, 1
        self._last = 0.0
        self._phase = ""
        self._over: threading.Event | None = None
        self._reported = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start to watch."""
        self._rank, self._world = trainer.global_rank, trainer.world_size
        self._over = threading.Event()
        self.alive(" (the first one takes longer where workers start or networks are compiled)")
        self._touch()
        threading.Thread(target=self._watch, args=(self._over,), daemon=True, name="watchdog").start()

    def alive(self, phase: str = "") -> None:
        """A sign of life.

        Args:
            phase: what may take long now, for the report.
        """
        self._last, self._phase, self._reported = time.monotonic(), phase, False

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A sign of life."""
        self.alive()

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """A sign of life."""
        self.alive()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluators follow, which take as long as they take."""
        self.alive(" (evaluators run)")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A sign of life."""
        self.alive()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last evaluation, the last checkpoint and the export follow."""
        self.alive(" (the run is ending)")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Watch no more."""
        if self._over is not None:
            self._over.set()
            (self.folder / str(self._rank)).unlink(missing_ok=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Watch no more."""
        self.teardown(trainer, pl_module, "fit")

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(min(5.0, self.after_s / 4)):
            silent_s = time.monotonic() - self._last
            self._touch()
            if silent_s >= self.after_s and not self._reported:
                self._reported = True
                self._report(silent_s)

    def _report(self, silent_s: float) -> None:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame else ""
        others = self._silent_ranks() if self._rank == 0 else []
        who = f"; ranks without a sign of life: {', '.join(map(str, others))}" if others else ""
        text = f"rank {self._rank}: no batch has ended for {silent_s:.0f} s{self._phase}{who}. The main thread is at\n"
        print(text + stack, file=sys.stderr, flush=True)

    def _touch(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / str(self._rank)).touch()
        except OSError:
            return  # the run folder's file system may be what hangs

    def _silent_ranks(self) -> list[int]:
        """Ranks whose file is older than this one's by half the time, by the file system's clock."""
        times = {path.name: path.stat().st_mtime for path in self.folder.glob("[0-9]*")}
        mine = times.get(str(self._rank), 0.0)
        known = [rank for rank in range(self._world) if rank != self._rank]
        return [rank for rank in known if times.get(str(rank), 0.0) < mine - self.after_s / 2]
