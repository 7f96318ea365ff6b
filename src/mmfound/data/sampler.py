"""Global batches, cut into the micro-batches of every process."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from mmfound.data.stream import Stream
from mmfound.errors import ConfigError


@dataclass(frozen=True)
class BatchPlan:
    """How a global batch is shared out. Micro-batch a of rank r is the (a * world + r)-th slice of it.

    Args:
        global_batch_size: samples per optimiser step, over all processes.
        micro_batch_size: samples per forward pass of one process.
        rank: of this process.
        world: number of processes.
    """

    global_batch_size: int
    micro_batch_size: int
    rank: int = 0
    world: int = 1

    @classmethod
    def checked(cls, global_batch_size: int, micro_batch_size: int | None, rank: int, world: int) -> "BatchPlan":
        """The plan for this machine; without a micro-batch size the whole share of a process is one.

        Raises:
            ConfigError: when the sizes do not divide; names those that do.
        """
        if global_batch_size < 1 or global_batch_size % world:
            below = global_batch_size // world * world
            nearest = [size for size in (below, below + world) if size > 0]
            most = min(global_batch_size, 2 * world)
            worlds = [ranks for ranks in range(1, most + 1) if global_batch_size % ranks == 0]
            raise ConfigError(
                f"data.init_args.global_batch_size is {global_batch_size}, which {world} processes cannot share; "
                f"use {' or '.join(map(str, nearest))}" + (f", or one of {worlds[-8:]} processes." if worlds else ".")
            )
        share = global_batch_size // world
        micro = share if micro_batch_size is None else micro_batch_size
        if micro < 1 or share % micro:
            valid = [size for size in range(1, share + 1) if share % size == 0]
            raise ConfigError(
                f"data.init_args.micro_batch_size is {micro}, which does not divide the {share} samples that each of "
                f"{world} processes has of global_batch_size {global_batch_size}; use one of {valid}."
            )
        return cls(global_batch_size, micro, rank, world)

    @property
    def span(self) -> int:
        """Samples that all processes together take in one forward pass."""
        return self.micro_batch_size * self.world

    @property
    def accumulation(self) -> int:
        """Micro-batches of a process per optimiser step."""
        return self.global_batch_size // self.span

    def share(self, start: int) -> tuple[int, int]:
        """First and one past the last position of this rank's micro-batch when all take theirs from `start`."""
        first = start + self.rank * self.micro_batch_size
        return first, first + self.micro_batch_size


class StreamSampler:
    """Endless draws of this rank's micro-batches.

    Args:
        stream: all samples.
        plan: this rank's part.
        start: position of the first micro-batch, a multiple of `plan.span`.
        skipped: positions of global batches to leave out.
        groups: how many micro-batches are drawn at once, in turn; together a divisor of the accumulation.
    """

    def __init__(
        self,
        stream: Stream,
        plan: BatchPlan,
        start: int,
        skipped: Collection[int] = (),
        groups: Sequence[int] = (1,),
    ) -> None:
        self.stream = stream
        self.plan = plan
        self.start = start
        self.skipped = skipped
        self.groups = groups

    def __iter__(self) -> Iterator[np.ndarray]:
        """[group * micro_batch_size, 3] draws, without end."""
        position = self.start
        for group in cycle(self.groups):
            while position in self.skipped:
                position += self.plan.global_batch_size
            end = position + group * self.plan.span
            starts = range(position, end, self.plan.span)
            yield np.concatenate([self.stream.draws(*self.plan.share(start)) for start in starts])
            position = end


class PassSampler:
    """Draws of this rank's part of one pass in order, the same number of samples on every rank in every batch.

    The order over all ranks is that of the source, whatever their number; at most world - 1 samples at the very end,
    which the ranks cannot share, are left out.

    Args:
        samples: in the source.
        plan: this rank's part.
    """

    def __init__(self, samples: int, plan: BatchPlan) -> None:
        self.samples = samples - samples % plan.world
        self.plan = plan

    def __len__(self) -> int:
        """Batches, equal on all ranks."""
        return -(-self.samples // self.plan.span)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Up to [micro_batch_size, 3] draws of epoch 0 and source 0."""
        for start in range(0, self.samples, self.plan.span):
            size = min(self.plan.span, self.samples - start) // self.plan.world
            first = start + self.plan.rank * size
            indices = np.arange(first, first + size)
            yield np.stack([np.zeros_like(indices), np.zeros_like(indices), indices], axis=1)


class ShareSampler:
    """Every world-th index of a source, from this rank's on: all samples exactly once over all ranks.

    Args:
        samples: in the source.
        batch_size: indices per batch.
        rank: of this process.
        world: number of processes.
    """

    def __init__(self, samples: int, batch_size: int, rank: int, world: int) -> None:
        self.indices = np.arange(rank, samples, world)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Batches of this rank."""
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Up to [batch_size] indices."""
        for start in range(0, len(self.indices), self.batch_size):
            yield self.indices[start : start + self.batch_size]
