"""Signals that ask a run to stop: noted at once, acted on at the end of the step."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ASKS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopSignals:
    """Notes SIGTERM, SIGUSR1 and Ctrl-C; a second Ctrl-C ends the process at once.

    Attributes:
        received: number of the first signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.received = 0
        self._interrupted = False

    @contextmanager
    def installed(self) -> Iterator["StopSignals"]:
        """Handle them within."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.getsignal(number) for number in _ASKS}
        self.install()
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Handle them, whoever has put a handler in place meanwhile."""
        if threading.current_thread() is threading.main_thread():
            for number in _ASKS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._interrupted:
            os.write(2, b"interrupted twice: leaving without saving\n")
            os._exit(130)
        if number == signal.SIGINT:
            self._interrupted = True
            os.write(2, b"interrupted: saving at the end of the step; again to leave at once\n")
        self.received = self.received or number
