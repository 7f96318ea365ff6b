"""Where ranks leave messages for one another before, and whether or not, they can talk by gloo or NCCL."""

import json
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from threading import Thread
from typing import Any

from torch.distributed import PrefixStore, TCPStore

from mmfound.cli.doctor.verdicts import NO_END
from mmfound.errors import ConfigError
from mmfound.runs.world import World

_POLL_S, _SLACK_S = 0.02, 10.0


class Meeting:
    """A store of torch at rank 0, as every start of several ranks needs it.

    Args:
        world: who this process is.
        timeout_s: how long rank 0 waits for the others, at every point.

    Raises:
        ConfigError: when rank 0 cannot listen, or is not heard of.
    """

    def __init__(self, world: World, timeout_s: float) -> None:
        self.world, self.timeout_s = world, timeout_s
        self._gone: set[int] = set()  # ranks that have not answered once, which are not waited for again
        listens = world.rank == 0 and not world.store_is_there
        place = f"{world.address}:{world.port}"
        try:
            self._first = self._connect(world.port, listens)
        except RuntimeError as error:  # torch's DistNetworkError and DistStoreError are of this kind
            if listens:
                raise ConfigError(
                    f"rank 0 cannot listen at {place} on {socket.gethostname()} ({first_line(error)}); another process "
                    "may hold the port: set MASTER_PORT to another one for all ranks"
                ) from error
            raise ConfigError(
                f"rank {world.rank} on {socket.gethostname()} has not reached rank 0 at {place} within "
                f"{timeout_s:g} s; see whether rank 0 was started, whether MASTER_ADDR is its host and whether "
                "MASTER_PORT is open there"
            ) from error
        self._store = PrefixStore(f"mmfound doctor {world.attempt}", self._first)

    def second_store(self) -> PrefixStore:
        """Of a connection of its own: whoever waits in it does not keep messages from passing."""
        store = self._connect(self._first.port, False)
        return PrefixStore(f"mmfound doctor {self.world.attempt} groups", store)

    def gather(self, topic: str, value: Any, more_s: float = 0.0) -> dict[int, Any]:
        """On rank 0 what every rank says, by rank, of those that answer in time; empty on the others.

        Args:
            topic: used once.
            value: what this rank says; JSON.
            more_s: what rank 0 waits longer than the time-out.
        """
        self._store.set(f"{topic}/{self.world.rank}", json.dumps(value))
        if self.world.rank > 0:
            return {}
        waiting, deadline = set(range(self.world.ranks)) - self._gone, time.monotonic() + self.timeout_s + more_s
        while waiting and time.monotonic() < deadline:
            arrived = {rank for rank in waiting if self._store.check([f"{topic}/{rank}"])}
            waiting -= arrived
            if not arrived:
                time.sleep(_POLL_S)
        self._gone |= waiting
        there = sorted(set(range(self.world.ranks)) - self._gone)
        return {rank: json.loads(self._store.get(f"{topic}/{rank}")) for rank in there}

    def tell(self, topic: str, value: Any = None) -> Any:
        """What rank 0 says, on every rank.

        Raises:
            ConfigError: when rank 0 has gone without a word.
        """
        if self.world.rank == 0:
            self._store.set(topic, json.dumps(value))
            return value
        try:
            self._store.wait([topic], timedelta(seconds=self.timeout_s * 3 + _SLACK_S))
            return json.loads(self._store.get(topic))
        except RuntimeError as error:
            raise ConfigError(f"rank {self.world.rank} hears nothing more of rank 0; see what rank 0 says") from error

    def part(self) -> None:
        """Leave; rank 0 last, with whom the store goes."""
        self.timeout_s = min(self.timeout_s, 5.0)
        self.gather("part", None)

    def _connect(self, port: int, listens: bool) -> TCPStore:
        timeout = timedelta(seconds=self.timeout_s)
        return TCPStore(self.world.address, port, None, listens, timeout, wait_for_workers=False)


def limited(action: Callable[[], Any], seconds: float) -> tuple[Any, str | None]:
    """Result and reason: the one that an action has, or why it has none.

    What does not return is left behind in its thread, so that the process has to be ended by force.
    """
    done: list[tuple[Any, str | None]] = []

    def run() -> None:
        try:
            done.append((action(), None))
        except Exception as error:
            done.append((None, first_line(error)))

    thread = Thread(target=run, daemon=True, name="doctor")
    thread.start()
    thread.join(seconds)
    return done[0] if done else (None, f"{NO_END} {seconds:g} s")


def first_line(error: Exception) -> str:
    """Of what torch says, which can be a page."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
