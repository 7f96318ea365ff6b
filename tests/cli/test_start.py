"""What a command starts from."""

import pytest

from mmfound.cli import start


@pytest.mark.parametrize(
    ("numbers", "first"),
    [
        ({"NODE_RANK": "0"}, True),
        ({"NODE_RANK": "1"}, False),
        ({"GROUP_RANK": "2"}, False),
        ({"SLURM_NODEID": "1"}, False),
        ({"SLURM_NODEID": "1", "GROUP_RANK": "0"}, True),  # torchrun within Slurm numbers its hosts itself
        ({"OTHER": "1"}, True),
    ],
)
def test_only_the_first_host_owns_the_folder(numbers: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch):
    for known in ("NODE_RANK", "GROUP_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_NODEID"):
        monkeypatch.delenv(known, raising=False)
    for name, number in numbers.items():
        monkeypatch.setenv(name, number)
    assert start.is_first_host() is first


def test_several_ranks_need_interfaces_that_are_there(run, monkeypatch: pytest.MonkeyPatch):
    ranks = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in (ranks | {"GLOO_SOCKET_IFNAME": "nope0"}).items():
        monkeypatch.setenv(name, value)
    code, _, err = run("fit", "--config", "toy/small")
    assert code == 2
    assert err.startswith("error: GLOO_SOCKET_IFNAME=nope0: there is no interface 'nope0' on ")
