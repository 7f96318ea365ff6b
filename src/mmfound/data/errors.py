"""The error of one sample, which the stream survives."""


class BadSample(Exception):
    """A sample that cannot be read or decoded. The stream replaces it and counts it by kind.

    Args:
        kind: a short name for counting, such as "truncated" or "too large".
        detail: what was seen.
        where: the sample: its file, shard or key; added by whoever knows it.
    """

    def __init__(self, kind: str, detail: str, where: str = "") -> None:
        super().__init__(kind, detail, where)
        self.kind = kind
        self.detail = detail
        self.where = where

    def __str__(self) -> str:
        """One line with everything that is known; control characters of foreign names are escaped."""
        where = self.where.encode("unicode_escape").decode() if self.where else ""
        return f"{where}: {self.kind}: {self.detail}" if where else f"{self.kind}: {self.detail}"
