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
