"""The nearest valid name to a mistyped one."""

import difflib
from collections.abc import Iterable


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The one of `names` most like `word` regardless of case, or None when none is."""
    by_lower = {name.lower(): name for name in sorted(names, reverse=True)}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """`; did you mean 'NAME'?`, or nothing when no name is near."""
    found = nearest(word, names)
    return f"; did you mean {found!r}?" if found else ""
