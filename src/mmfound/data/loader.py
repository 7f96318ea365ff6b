"""Loaders: the endless training stream with a position, and one pass over a source.

Neither is a DataLoader: Lightning would give a DataLoader a sampler of its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any

import numpy as np
from lightning.fabric.utilities.rank_zero import rank_zero_warn

from mmfound.data.bad import BadReads
from mmfound.data.joining import joined
from mmfound.data.reader import Reader
from mmfound.data.sampler import BatchPlan, PassSampler, ShareSampler, StreamSampler
from mmfound.data.stream import Stream
from mmfound.data.workers import Workers, shut_down
from mmfound.errors import ConfigError, DataError, UserError


class TrainLoader:
    """This rank's batches of the training stream, from any position.

    Iterating gives the rest of the current pass and may be broken off and taken up again; workers go on making batches
    of the next pass meanwhile. The state is rank-independent: it resumes on any number of ranks and workers.

    Args:
        reader: makes the batches.
        stream: what they are of.
        plan: how they are shared out.
        workers: what makes them.
        bad: counts the failed reads.
        identity: without which the position means nothing (seed, order, source), by name.
        skipped: positions of global batches to leave out, beside those that a state says.
        together: micro-batches that are handed out as one batch. It is made in as many parts as the workers make ahead,
            so that all of them work on it, and on one batch while another is trained on.

    Raises:
        ConfigError: when a batch is larger than the data.

    Attributes:
        position: samples handed out so far, over all ranks.
        span: samples that are handed out at once, over all ranks.
        waited_s: seconds that taking batches has taken so far, the first batch since a start left out.
        first_batch_s: seconds that the first batch took.
    """

    def __init__(
        self,
        reader: Reader,
        stream: Stream,
        plan: BatchPlan,
        *,
        workers: Workers,
        bad: BadReads,
        identity: Mapping[str, Any],
        skipped: Iterable[int] = (),
        together: int = 1,
    ) -> None:
        self.plan = plan
        self.span = plan.span * together
        self.skipped = set(skipped)
        self.bad = bad
        self.position = 0
        self.waited_s = 0.0
        self.first_batch_s: float | None = None
        self.workers = workers
        parts = max(1, min(together, workers.count * workers.prefetch))
        self._groups = [together * (n + 1) // parts - together * n // parts for n in range(parts)]  # micro-batches
        self._reader, self._stream, self._identity = reader, stream, dict(identity)
        self._pass_length = stream.samples // plan.global_batch_size * plan.global_batch_size
        if not self._pass_length:
            raise ConfigError(
                f"data.init_args.global_batch_size is {plan.global_batch_size}, but the training source has only "
                f"{stream.samples} samples; lower it to at most {stream.samples}, or use more data."
            )
        self._batches: Iterator[Any] | None = None

    def __len__(self) -> int:
        """Batches of one pass, wherever the position."""
        return self._pass_length // self.span

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rest of the pass that the position lies in; all of it at its start. Workers start at once."""
        if self._batches is None:
            sampler = StreamSampler(self._stream, self.plan, self.position, frozenset(self.skipped), self._groups)
            self._batches = iter(self.workers.loader(self._reader, sampler, keep=False))
            self.first_batch_s = None
        return self._rest_of_pass()

    def state_dict(self) -> dict[str, Any]:
        """The position and what it belongs to."""
        size = self.plan.global_batch_size
        return {
            "position": self.position,
            "global_batch_size": size,
            "skipped": sorted(self.skipped),
            **self._identity,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken.

        With another global batch size the pass goes on at the last whole batch of the new size.

        Raises:
            DataError: when the source has changed.
            ConfigError: when the seed or the order has changed.
        """
        for name, value in self._identity.items():
            if state[name] != value:
                error = DataError if name == "source" else ConfigError
                raise error(
                    f"The training data's {name} has changed since the checkpoint, from {state[name]} to {value}, so "
                    "its position means nothing now. Put it back, or begin a new run from the weights (init_from)."
                )
        self.close()
        if state["global_batch_size"] == self.plan.global_batch_size:
            self.skipped |= set(state.get("skipped", ()))
        self.position = self._converted(state["position"], state["global_batch_size"])

    def close(self) -> None:
        """End the workers; iterating starts new ones."""
        shut_down(self._batches)
        self._batches = None

    def _rest_of_pass(self) -> Iterator[dict[str, Any]]:
        end = (self.position // self._pass_length + 1) * self._pass_length
        while self._past_skipped() < end:
            batch = self._next()
            self.position += self.span  # counted when handed out: workers are ahead of this
            yield batch

    def _past_skipped(self) -> int:
        """Move on to a batch that is not left out."""
        while self.position in self.skipped:
            self.position += self.plan.global_batch_size
        return self.position

    def _next(self) -> dict[str, Any]:
        if self._batches is None:
            iter(self)
        assert self._batches is not None
        made, start = self._batches, perf_counter()
        parts = (_checked(next(made), self.bad) for _ in self._groups)
        batch = joined(parts, self.plan.micro_batch_size * sum(self._groups))
        waited = perf_counter() - start
        if self.first_batch_s is None:
            self.first_batch_s = waited
        else:
            self.waited_s += waited
        return batch

    def _converted(self, position: int, batch_size: int) -> int:
        if batch_size == self.plan.global_batch_size:
            # Inside an accumulation that this layout cannot cut, back to its start: its gradients are lost anyway.
            return position if position % self.span == 0 else position // batch_size * batch_size
        rank_zero_warn(
            f"global_batch_size was {batch_size} and is now {self.plan.global_batch_size}: every sample of a pass is "
            "still used at most once, but batches are composed anew."
        )
        return self._stream.converted(position, batch_size, self.plan.global_batch_size)


class PassLoader:
    """One pass over a source, in its order.

    Args:
        reader: makes the batches.
        sampler: what they are of.
        workers: what makes them.
        bad: counts the failed reads.
        keep: keep the workers from one pass to the next.
    """

    def __init__(
        self,
        reader: Reader,
        sampler: PassSampler | ShareSampler | list[np.ndarray],
        *,
        workers: Workers,
        bad: BadReads,
        keep: bool,
    ) -> None:
        self.bad = bad
        self._sampler = sampler
        self._loader = workers.loader(reader, sampler, keep=keep)

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self._sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The batches that are not empty."""
        return (batch for batch in self.everything() if batch["key"])

    def everything(self) -> Iterator[dict[str, Any]]:
        """All batches, those of bad samples alone too, which are empty."""
        return (_checked(made, self.bad) for made in self._loader)

    def close(self) -> None:
        """End kept workers; iterating starts new ones."""
        shut_down(self._loader._iterator)
        self._loader._iterator = None


class NoBatches:
    """Nothing to go over, of unknown length: Lightning would skip the hooks of a loader that it knows to be empty, and
    evaluators run in those."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """No batches."""
        return iter(())


def _checked(made: dict[str, Any] | UserError, bad: BadReads) -> dict[str, Any]:
    """The batch without its failed reads, which are counted."""
    if isinstance(made, UserError):
        raise made
    bad.add(len(made["key"]), made.pop("bad"))
    return made
