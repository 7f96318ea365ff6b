"""Many strings in two arrays."""

from collections.abc import Iterable

import numpy as np


class PackedStrings:
    """An immutable list of strings that workers share without copying: no Python object per string.

    Args:
        strings: the strings, read once.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        body, stops = bytearray(), [0]
        for text in strings:
            body += text.encode("utf-8", "surrogateescape")
            stops.append(len(body))
        self._body = np.frombuffer(bytes(body), np.uint8)
        self._stops = np.array(stops, np.int64)

    def __len__(self) -> int:
        """Number of strings."""
        return len(self._stops) - 1

    def __getitem__(self, index: int) -> str:
        """The string at `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"{index} of {len(self)} strings")
        return self._body[self._stops[index] : self._stops[index + 1]].tobytes().decode("utf-8", "surrogateescape")

    def digest_bytes(self) -> bytes:
        """All content, for a fingerprint."""
        return self._body.tobytes() + self._stops.tobytes()
