"""Interfaces that the environment names, in gloo's and in NCCL's syntax."""

import socket

import pytest

from mmfound.errors import ConfigError
from mmfound.runs import network

HERE = {
    "lo": ["127.0.0.1"],
    "docker0": ["172.17.0.1"],
    "eth0": ["10.0.0.5", "fd00::5"],
    "eth1": [],
    "ib0": ["10.1.0.5"],
}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with InfiniBand, and an interface without an address."""
    monkeypatch.setattr(network, "interfaces", lambda: HERE)
    for variable in network.VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_loopback_is_among_the_real_ones():
    assert network.interfaces()["lo"][0] == "127.0.0.1"
    assert set(network.interfaces()) >= {name for _, name in socket.if_nameindex()}


@pytest.mark.parametrize("value", ["eth0", "eth0,ib0", "lo"])
def test_gloo_takes_names(value: str, here: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", value)
    network.check_interfaces()
    assert network.gloo_address() == HERE[value.split(",")[0]][0]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("eth", "there is no interface 'eth'"),
        ("eth0,eth2", "there is no interface 'eth2'"),
        ("eth1", "interface 'eth1' has no address"),
    ],
)
def test_gloos_wrong_names_are_told_with_those_there_are(value: str, reason: str, here: None, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", value)
    with pytest.raises(ConfigError) as caught:
        network.check_interfaces()
    assert str(caught.value) == (
        f"GLOO_SOCKET_IFNAME={value}: {reason} on {socket.gethostname()}; set it to one of docker0 (172.17.0.1), "
        "eth0 (10.0.0.5), ib0 (10.1.0.5), lo (127.0.0.1), or leave it unset"
    )


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("", ["ib0"]),
        ("eth", ["eth0"]),
        ("=eth0", ["eth0"]),
        ("ens,eth0", ["eth0"]),
        ("^docker,lo", ["eth0", "ib0"]),
        ("^=eth0,lo", ["docker0", "ib0"]),
    ],
)
def test_nccl_takes_beginnings_exact_names_and_exceptions(value: str, taken: list[str], here: None, monkeypatch):
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", value)
    network.check_interfaces()
    assert network.nccl_interfaces() == taken


@pytest.mark.parametrize("value", ["ens", "=eth", "eth1", "^lo,docker,eth,ib"])
def test_nccls_selection_of_nothing_is_told(value: str, here: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", value)
    with pytest.raises(ConfigError, match=r"NCCL_SOCKET_IFNAME=.*eth0 \(10.0.0.5\), ib0"):
        network.check_interfaces()
