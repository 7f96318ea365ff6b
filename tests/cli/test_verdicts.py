"""What the answers of many ranks are summed up to."""

from pathlib import Path
from typing import Any

from mmfound.cli.doctor import verdicts
from mmfound.runs.world import World


def facts(hosts: int, per_host: int = 2, **changes: dict[int, Any]) -> dict[int, dict[str, Any]]:
    """Of ranks that differ where `changes` says, by rank."""
    usual: dict[str, Any] = {
        "versions": {"torch": "2.14"},
        "interfaces": "eth0 (10.0.0.1)",
        "wrong": None,
        "gloo": "10.0.0.1",
        "nccl": "eth0",
        "devices": 1,
        "folder": {"path": "/runs", "kind": "nfs4", "closed": None},
        "data": "7 entries",
    }
    found = {rank: usual | {"host": f"n{rank // per_host}"} for rank in range(hosts * per_host)}
    for name, values in changes.items():
        for rank, value in values.items():
            found[rank][name] = value
    return found


def test_missing_ranks_are_named_with_the_hosts_that_answered():
    few = {rank: fact for rank, fact in facts(4).items() if rank not in (2, 3, 6)}
    verdict = verdicts.arrived(World("srun", 0, 8, 0, "n0", 15007), few, 60)
    assert verdict.state == "FAIL"
    assert verdict.text == (
        "5 of 8 answered, on 3 hosts: n0 (ranks 0-1), n2 (ranks 4-5), n3 (rank 7); not within 60 s: ranks 2-3, 6"
    )
    assert "n0:15007" in verdict.advice
    assert "eth0 (10.0.0.1)" in verdict.advice


def test_a_thousand_hosts_do_not_fill_the_screen():
    found = facts(1000)
    lines = [verdicts.arrived(World("srun", 0, 2000), found, 60), verdicts.interfaces(found)]
    assert all(len(str(line)) < 1000 for line in lines)
    assert "and 988 more" in lines[0].text


def test_versions_that_differ_fail():
    assert verdicts.versions(facts(2)).state == "ok"
    verdict = verdicts.versions(facts(2, versions={3: {"torch": "2.10"}}))
    assert (verdict.state, verdict.text) == ("FAIL", "ranks 0-2: torch 2.14; rank 3: torch 2.10")


def test_devices_are_of_all_ranks_or_of_none():
    assert verdicts.devices(facts(2)).state == "ok"
    assert verdicts.devices(facts(1, devices={0: 0, 1: 0})).state == "note"
    verdict = verdicts.devices(facts(2, devices={2: 0}))
    assert (verdict.state, verdict.text) == ("FAIL", "no CUDA device: rank 2 on n1 (rank 2)")


def test_the_slowest_rank_counts_and_a_wrong_sum_fails():
    good = {"right": True, "latency_s": 1e-4, "bytes": 1 << 20, "bytes_per_s": 2e9}
    answers = {rank: {"reason": None, "result": good} for rank in range(4)}
    answers[2] = {"reason": None, "result": good | {"latency_s": 0.5, "bytes_per_s": 1e8}}
    verdict = verdicts.collective("gloo", facts(2), answers)
    assert verdict.text == "a sum over ranks is right; 500 ms for 4 bytes, 0.1 GB/s for 1 MiB"
    answers[1] = {"reason": None, "result": good | {"right": False}}
    assert verdicts.collective("gloo", facts(2), answers).text == "a sum over ranks is wrong on rank 1"
    answers[3] = {"reason": "timed out", "result": None}
    verdict = verdicts.collective("NCCL", facts(2), answers)
    assert verdict.text == "rank 3 cannot talk; rank 3: timed out"
    assert "NCCL_SOCKET_IFNAME" in verdict.advice


def test_ranks_that_fall_silent_are_named():
    for verdict in (
        verdicts.collective("gloo", facts(2), {0: {}, 2: {}}),
        verdicts.folder(facts(2), {0: 0.0, 2: 0.0}, None, 3),
    ):
        assert verdict.state == "FAIL"
        assert verdict.text == "no more answer from ranks 1, 3 on 2 hosts: n0 (rank 1), n1 (rank 3)"


def test_clocks_are_compared_between_all_hosts():
    verdict = verdicts.clocks(facts(3), {2: (4.0, 0.1), 4: (-3.0, 0.2)}, None)
    assert verdict.state == "note"
    assert verdict.text == "at most 7 s apart (give or take 200 ms): n1 is ahead of n2"
    assert verdicts.clocks(facts(2), {2: (1.1, 0.3)}, None).state == "ok"


def test_a_folder_that_is_late_or_closed_is_told():
    late = verdicts.folder(facts(2), {0: 0.0, 1: 0.1, 2: 31.0, 3: 30.0}, None, 60)
    assert (late.state, "after 31 s at the latest" in late.text) == ("note", True)
    place = {"path": "/runs", "kind": "nfs4", "closed": "Read-only file system"}
    closed = verdicts.folder(facts(2, folder={2: place, 3: place}), dict.fromkeys(range(4), 0.0), None, 60)
    assert (closed.state, closed.text) == ("FAIL", "ranks 2-3 cannot write to /runs (nfs4): Read-only file system")
    full = verdicts.folder(facts(2), {}, "No space left on device", 60)
    assert full.text == "rank 0 cannot write to /runs (nfs4): No space left on device"


def test_data_is_the_same_for_all_or_fails():
    assert verdicts.data(Path("d"), facts(2)).text == "d: all see 7 entries"
    some = verdicts.data(Path("d"), facts(2, data={3: None}))
    assert some.text == "d is not there for rank 3 on n1 (rank 3); 3 of 4 see it"
    other = verdicts.data(Path("d"), facts(2, data={3: "6 entries"}))
    assert other.text == "d is not the same for all: 7 entries: ranks 0-2; 6 entries: rank 3"
    assert "{" not in str(verdicts.data(Path("d"), facts(1, data={0: None, 1: None})))
