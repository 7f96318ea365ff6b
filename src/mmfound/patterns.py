"""Parameters chosen by regular expressions over their full names."""

import difflib
import re
from collections.abc import Iterable

from mmfound.errors import ConfigError


def check_pattern(pattern: str, user: str) -> None:
    """Refuse what is no regular expression.

    Raises:
        ConfigError: saying what is wrong with it.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{user}: {pattern!r} is no regular expression: {error}.") from error


def matching(pattern: str, names: Iterable[str], user: str) -> list[str]:
    """The names that a pattern matches as a whole.

    Raises:
        ConfigError: when there is none, with the nearest name.
    """
    names = list(names)
    found = [name for name in names if re.fullmatch(pattern, name)]
    if found:
        return found
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4)
    shown = f"nearest: {', '.join(near)}" if near else f"the names are {', '.join(names[:3])}, ..."
    raise ConfigError(f"{user}: {pattern!r} matches no parameter's whole name; {shown}.")
