"""Errors that are the user's to mend: one clear message without a traceback, and an exit code of their own.

The first line names the thing, shows the value and says what to do.
"""

import errno
from collections.abc import Iterator

FULL = (errno.ENOSPC, errno.EDQUOT)


class UserError(Exception):
    """Something the user can mend. `exit_code` is what the process ends with."""

    exit_code = 2


class ConfigError(UserError):
    """A recipe or option that cannot be used (exit code 2)."""


class DataError(UserError):
    """Data that is missing, empty, damaged beyond the allowed share, or unlike what the recipe says (exit code 3)."""

    exit_code = 3


class DiskFullError(UserError):
    """No room to write the run folder (exit code 8)."""

    exit_code = 8


class RunEnded(UserError):
    """All ranks agreed to end training before its last step."""


class Preempted(RunEnded):
    """Asked to stop by a signal; the run is saved and goes on with the same command."""

    exit_code = 4


class GoesBack(Exception):  # noqa: N818 - a way to go on
    """All ranks agreed to go on from an older checkpoint; training begins again within the same start."""


class DivergedError(RunEnded):
    """Losses or gradients are not finite."""

    exit_code = 5


class LockedError(UserError):
    """Another process trains in this run folder."""

    exit_code = 6


class CheckpointError(UserError):
    """There are checkpoints, and none of them can be trusted."""

    exit_code = 7


class Interrupted(RunEnded):
    """Stopped from the keyboard; the run is saved."""

    exit_code = 130


class FailedElsewhere(RunEnded):
    """Another rank has failed, which has said why.

    Args:
        message: what is known of it here.
        code: the exit code that it ends with.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from: libraries wrap what our constructors raise."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def user_error(error: BaseException) -> UserError | None:
    """What the user can mend about an error; None for a bug.

    A full disk is met in too many places to be caught in each.
    """
    links = list(chain(error))
    mistake = next((link for link in links if isinstance(link, UserError)), None)
    full = next((link for link in links if isinstance(link, OSError) and link.errno in FULL), None)
    if mistake is not None or full is None:
        return mistake
    where = f" to write {full.filename}" if full.filename else ""
    return DiskFullError(f"no room{where}: {full.strerror}; make some, and start the same command again")


def exit_code(error: BaseException) -> int:
    """What a process ends with that ends by this error."""
    links = list(chain(error))
    if any(isinstance(link, KeyboardInterrupt) for link in links):
        return Interrupted.exit_code
    mistake = user_error(error)
    return 1 if mistake is None else mistake.exit_code
