"""Samples that could not be read: counted, named, and no longer tolerated when there are too many."""

from collections import Counter
from dataclasses import dataclass

from lightning.fabric.utilities.rank_zero import rank_zero_warn

from mmfound.errors import DataError

_ENOUGH = 100  # samples read before the share of bad ones means anything
_NAMED = 5  # of each kind


@dataclass(frozen=True)
class BadRead:
    """One failed read, as it travels from a worker to the main process."""

    kind: str
    message: str


class BadReads:
    """What could not be read so far, on this process.

    Args:
        max_fraction: largest tolerated share of failed reads.

    Attributes:
        by_kind: number of failed reads of every kind.
        read: number of samples read well.
    """

    def __init__(self, max_fraction: float) -> None:
        self.max_fraction = max_fraction
        self.by_kind: Counter[str] = Counter()
        self.read = 0

    @property
    def total(self) -> int:
        """Failed reads of all kinds."""
        return self.by_kind.total()

    def add(self, read: int, bad: list[BadRead]) -> None:
        """Count a batch.

        Args:
            read: samples in it.
            bad: reads that failed while it was made.

        Raises:
            DataError: when the share of failed reads has become too large.
        """
        self.read += read
        for failure in bad:
            self.by_kind[failure.kind] += 1
            if self.by_kind[failure.kind] <= _NAMED:
                last = " (more of this kind are counted, not named)" if self.by_kind[failure.kind] == _NAMED else ""
                rank_zero_warn(f"Bad sample replaced or left out, {failure.kind}: {failure.message}{last}")
        reads = self.read + self.total
        if bad and self.total > self.max_fraction * reads and (reads >= _ENOUGH or not self.read):
            kinds = ", ".join(f"{count} {kind}" for kind, count in self.by_kind.most_common())
            raise DataError(
                f"{self.total} of {reads} samples could not be read ({kinds}), more than max_bad_fraction "
                f"{self.max_fraction}. The last: {bad[-1].message}. Mend the data, or raise "
                "data.init_args.max_bad_fraction."
            )
