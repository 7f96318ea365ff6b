"""How far drawing is: a bar on a terminal, lines elsewhere."""

import sys
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor

from mmfound.diffusion.estimates import Denoiser, Estimate
from mmfound.diffusion.levels import Level


class Progress:
    """Steps of batches, on standard error.

    Args:
        pictures: that are drawn.
        steps: of all batches.
        every_s: seconds between lines.
        lines: instead of a bar; by default where standard error is no terminal.
    """

    def __init__(self, pictures: int, steps: int, *, every_s: float = 10.0, lines: bool | None = None) -> None:
        self.pictures, self.steps = pictures, steps
        self.every_s = every_s
        self._drawn = self._done = 0
        self._bar: Bar | None = None
        self._row = TaskID(0)
        self._started_at = self._told_at = monotonic()
        if not (sys.stderr.isatty() if lines is None else not lines):
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
        self._bar = Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), refresh_per_second=2)
        self._row = self._bar.add_task("drawing", total=steps, told="")

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def watched(self, denoise: Denoiser) -> Denoiser:
        """The same denoiser, whose steps are counted: a sampler may ask twice at one level."""
        before: float | None = None

        def counting(x_t: Tensor, level: Level) -> Estimate:
            nonlocal before
            time = float(level.time.reshape(-1)[0])
            if time != before:
                before = time
                self._done += 1
                self._tell()
            return denoise(x_t, level)

        return counting

    def finish_batch(self, pictures: int, steps: int) -> None:
        """A batch is there, of so many pictures and steps; `steps` counts from the first batch."""
        self._drawn += pictures
        self._done = steps
        self._tell(self._drawn == self.pictures)

    def _tell(self, at_once: bool = False) -> None:
        told = f"{self._drawn} of {self.pictures} pictures"
        if self._bar is not None:
            self._bar.update(self._row, completed=self._done, told=told)
        elif at_once or monotonic() - self._told_at >= self.every_s:
            self._told_at = monotonic()
            line = f"step {self._done} of {self.steps}, {told}, {self._left()} left"
            print(line, file=sys.stderr, flush=True)

    def _left(self) -> str:
        seconds = round((monotonic() - self._started_at) / max(1, self._done) * (self.steps - self._done))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
