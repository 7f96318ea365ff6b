"""Errors that are the user's to mend: one clear message without a traceback, and an exit code of their own.

The first line names the thing, shows the value and says what to do.
"""


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
