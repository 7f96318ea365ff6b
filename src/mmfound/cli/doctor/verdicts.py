"""What the answers of all ranks mean: one verdict a line, and what to do where something is wrong."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmfound.cli.doctor.cluster import duration
from mmfound.runs import network
from mmfound.runs.world import World, start_command

Facts = Mapping[int, Mapping[str, Any]]  # of every rank that has answered
NO_END = "no end after"  # the reason that tells least
_LATE_S, _SKEW_S = 1.0, 1.0
_SHORTEST = 12  # ranks and hosts named in one line


@dataclass(frozen=True)
class Verdict:
    """One line.

    Attributes:
        name: what was looked at.
        state: ok; note, which is worth knowing; FAIL, with which training will not work; or -, not looked at.
        text: what was found.
        advice: what to do.
    """

    name: str
    state: Literal["ok", "note", "FAIL", "-"]
    text: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{self.state:<4}  {self.name:<9}  {self.text}"
        return f"{line}\n{'':17}-> {self.advice}" if self.advice else line


def arrived(world: World, facts: Facts, timeout_s: float) -> Verdict:
    """Who is there, and who is not."""
    missing = set(range(world.ranks)) - facts.keys()
    found = f"{len(facts)} of {world.ranks} answered, on {_hosts(facts)}"
    if missing:
        advice = (
            f"see whether these were started, and whether their hosts reach {world.address}:{world.port}; if the hosts "
            "have several networks, set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to the interface that they share, "
            f"of {facts[0]['interfaces']} here"
        )
        return Verdict("ranks", "FAIL", f"{found}; not within {timeout_s:g} s: {_ranks(missing)}", advice)
    if world.launcher == "none":
        return Verdict("ranks", "note", found, f"for several: {start_command('mmfound doctor --ranks')}")
    return Verdict("ranks", "ok", f"{found}; started by {world.launcher}")


def interfaces(facts: Facts) -> Verdict:
    """Whether what the variables name is there, and what each host uses."""
    wrong = {fact["host"]: fact["wrong"] for fact in facts.values() if fact["wrong"]}
    if wrong:
        more = f"; {len(wrong) - 1} more hosts have such an error" if len(wrong) > 1 else ""
        return Verdict("network", "FAIL", next(iter(wrong.values())) + more)
    by_host = _first_of_hosts(facts)
    used = [f"{host}: gloo {fact['gloo']}, NCCL {fact['nccl'] or 'none'}" for host, fact in by_host.items()]
    alone = [host for host, fact in by_host.items() if network.is_loopback(fact["gloo"])]
    if len(by_host) > 1 and alone:
        advice = f"set GLOO_SOCKET_IFNAME to the network that the hosts share, of {facts[0]['interfaces']} here"
        text = f"the names of {_short(alone)} stand for their loopback, which no other host reaches; {_short(used)}"
        return Verdict("network", "FAIL", text, advice)
    return Verdict("network", "ok", _short(used))


def versions(facts: Facts) -> Verdict:
    """Whether all ranks run the same code."""
    groups: dict[str, list[int]] = defaultdict(list)
    for rank, fact in facts.items():
        groups[", ".join(f"{name} {value}" for name, value in fact["versions"].items())].append(rank)
    if len(groups) == 1:
        return Verdict("versions", "ok", next(iter(groups)))
    text = "; ".join(f"{_ranks(ranks)}: {found}" for found, ranks in groups.items())
    return Verdict("versions", "FAIL", text, "start all ranks from one environment, on a shared disk or as one image")


def devices(facts: Facts) -> Verdict:
    """Whether all ranks have a CUDA device, or none has."""
    without = [rank for rank, fact in facts.items() if not fact["devices"]]
    if not without:
        return Verdict("devices", "ok", "every rank has a CUDA device")
    if len(without) == len(facts):
        return Verdict("devices", "note", "no rank has a CUDA device; NCCL is not tried")
    advice = "see nvidia-smi there, CUDA_VISIBLE_DEVICES, and whether the job asks for GPUs on every host"
    return Verdict("devices", "FAIL", f"no CUDA device: {_ranks(without)} on {_hosts(_only(facts, without))}", advice)


def collective(name: str, facts: Facts, answers: Mapping[int, Mapping[str, Any]]) -> Verdict:
    """Whether ranks can add up, and how fast."""
    silent = facts.keys() - answers.keys()
    if silent:
        return _silence(name, facts, silent)
    failed = {rank: answer["reason"] for rank, answer in answers.items() if answer["reason"]}
    variable = f"{name.upper()}_SOCKET_IFNAME"
    if failed:
        telling = min(failed, key=lambda rank: (failed[rank].startswith(NO_END), rank))
        text = f"{_ranks(failed)} cannot talk; {_ranks([telling])}: {failed[telling]}"
        advice = (
            f"set {variable} to the network that the hosts share, of {facts[0]['interfaces']} here; see whether a "
            f"firewall closes ports between them{'; NCCL_DEBUG=INFO says more' if name == 'NCCL' else ''}"
        )
        return Verdict(name, "FAIL", text, advice)
    wrong = [rank for rank, answer in answers.items() if not answer["result"]["right"]]
    if wrong:
        return Verdict(name, "FAIL", f"a sum over ranks is wrong on {_ranks(wrong)}", "leave out these hosts")
    if len(answers) == 1:
        return Verdict(name, "ok", "starts")
    slowest = min((answer["result"] for answer in answers.values()), key=lambda result: result["bytes_per_s"])
    latency = max(answer["result"]["latency_s"] for answer in answers.values())
    speed = f"{slowest['bytes_per_s'] / 1e9:.3g} GB/s for {slowest['bytes'] >> 20} MiB"
    return Verdict(name, "ok", f"a sum over ranks is right; {duration(latency)} for 4 bytes, {speed}")


def clocks(facts: Facts, offsets: Mapping[int, tuple[float, float]], reason: str | None) -> Verdict:
    """How far the clocks of hosts are apart, from their differences to rank 0's and the uncertainties of these."""
    if reason:
        return Verdict("clocks", "-", f"not compared: {reason}")
    if not offsets:
        return Verdict("clocks", "ok", "one host")
    ahead = {facts[rank]["host"]: offset for rank, (offset, _) in offsets.items()} | {facts[0]["host"]: 0.0}
    first, last = min(ahead, key=lambda host: ahead[host]), max(ahead, key=lambda host: ahead[host])
    apart, uncertain = ahead[last] - ahead[first], max(uncertain for _, uncertain in offsets.values())
    text = f"at most {duration(apart)} apart (give or take {duration(uncertain)})"
    if apart - uncertain < _SKEW_S:
        return Verdict("clocks", "ok", text)
    return Verdict("clocks", "note", f"{text}: {last} is ahead of {first}", "have chrony or NTP set the clocks")


def folder(facts: Facts, answers: Mapping[int, float | None], reason: str | None, wait_s: float) -> Verdict:
    """Whether all ranks see what rank 0 writes."""
    places = {rank: fact["folder"] for rank, fact in facts.items()}
    mine = places[0]
    here = f"{mine['path']} ({mine['kind']})"
    if reason:
        return Verdict(
            "folder", "FAIL", f"rank 0 cannot write to {here}: {reason}", "make it, or name another: --folder"
        )
    silent = facts.keys() - answers.keys()
    if silent:
        return _silence("folder", facts, silent)
    blind = [rank for rank, seconds in answers.items() if seconds is None]
    if blind:
        other = places[blind[0]]
        elsewhere = f", and {_ranks(blind[:1])} looks in {other['path']} ({other['kind']})" if other != mine else ""
        text = f"{_ranks(blind)} cannot see within {wait_s:g} s what rank 0 writes to {here}{elsewhere}"
        advice = "run folders must be on a file system that all hosts share, under one path: name it with --folder"
        return Verdict("folder", "FAIL", text, advice)
    closed = [rank for rank, place in places.items() if place["closed"]]
    if closed:
        text = f"{_ranks(closed)} cannot write to {here}: {places[closed[0]]['closed']}"
        return Verdict("folder", "FAIL", text, "mount it for writing on every host, for the same user")
    latest = max(seconds for seconds in answers.values() if seconds is not None)
    text = f"{here}: all see what rank 0 writes, after {duration(latest)} at the latest"
    if latest < _LATE_S:
        return Verdict("folder", "ok", text)
    advice = "hosts keep old listings (NFS: actimeo); leave as much time between a stop and the next start"
    return Verdict("folder", "note", text, advice)


def data(path: Path, facts: Facts) -> Verdict:
    """Whether all ranks see the same."""
    groups: dict[str | None, list[int]] = defaultdict(list)
    for rank, fact in facts.items():
        groups[fact["data"]].append(rank)
    found = {size: ranks for size, ranks in groups.items() if size is not None}
    if len(found) == len(groups) == 1:
        return Verdict("data", "ok", f"{path}: all see {next(iter(found))}")
    advice = "copy or mount it under this path on every host, whole, and readable for this user"
    if None in groups:
        where = _hosts(_only(facts, groups[None]))
        seen = len(facts) - len(groups[None])
        return Verdict(
            "data",
            "FAIL",
            f"{path} is not there for {_ranks(groups[None])} on {where}; {seen} of {len(facts)} see it",
            advice,
        )
    sizes = "; ".join(f"{size}: {_ranks(ranks)}" for size, ranks in found.items())
    return Verdict("data", "FAIL", f"{path} is not the same for all: {sizes}", advice)


def _silence(name: str, facts: Facts, silent: Iterable[int]) -> Verdict:
    text = f"no more answer from {_ranks(silent)} on {_hosts(_only(facts, silent))}"
    return Verdict(name, "FAIL", text, "these have ended or stand still; see what they and their hosts say")


def _first_of_hosts(facts: Facts) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for fact in facts.values():
        found.setdefault(fact["host"], fact)
    return found


def _only(facts: Facts, ranks: Iterable[int]) -> Facts:
    return {rank: facts[rank] for rank in ranks}


def _hosts(facts: Facts) -> str:
    groups: dict[str, list[int]] = defaultdict(list)
    for rank, fact in facts.items():
        groups[fact["host"]].append(rank)
    named = _short([f"{host} ({_ranks(ranks)})" for host, ranks in groups.items()])
    return named if len(groups) == 1 else f"{len(groups)} hosts: {named}"


def _ranks(ranks: Iterable[int]) -> str:
    """`rank 3`, or `ranks 0-3, 7`."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], rank]
        else:
            runs.append([rank])
    text = _short(["-".join(map(str, run)) for run in runs])
    return f"rank {text}" if text.isdigit() else f"ranks {text}"


def _short(names: list[str]) -> str:
    more = len(names) - _SHORTEST
    return ", ".join(names[:_SHORTEST]) + (f" and {more} more" if more > 0 else "")
