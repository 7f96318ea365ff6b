"""Network interfaces of this host, and which of them gloo and NCCL will use."""

import array
import contextlib
import fcntl
import ipaddress
import os
import socket
import struct
from pathlib import Path

from mmfound.errors import ConfigError

VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_SIOCGIFCONF = 0x8912  # linux/sockios.h
_IFREQ = 40


def interfaces() -> dict[str, list[str]]:
    """Name to addresses, IPv4 first; interfaces without an address have an empty list."""
    found: dict[str, list[str]] = {name: [] for _, name in socket.if_nameindex()}
    for name, address in [*_ipv4(), *_ipv6()]:
        if address not in found.setdefault(name, []):
            found[name].append(address)
    return found


def check_interfaces() -> None:
    """Look for the interfaces that the environment names, before gloo or NCCL fail at them in their own words.

    Raises:
        ConfigError: naming the variable, its value, and the interfaces that there are.
    """
    for variable in VARIABLES:
        value = os.environ.get(variable)
        reason = wrong(variable, value) if value else None
        if reason is not None:
            raise ConfigError(f"{variable}={value}: {reason}")


def wrong(variable: str, value: str) -> str | None:
    """What is wrong with a value of one of the variables, and what to do; None when it can be used."""
    here = interfaces()
    reason = (_wrong_for_nccl if variable.startswith("NCCL") else _wrong_for_gloo)(value, here)
    if reason is None:
        return None
    return f"{reason} on {socket.gethostname()}; set it to one of {described(here)}, or leave it unset"


def described(here: dict[str, list[str]]) -> str:
    """Names and first addresses of interfaces that have one, loopback last."""
    usable = sorted((name for name in here if here[name]), key=_is_loopback)
    return ", ".join(f"{name} ({here[name][0]})" for name in usable) or "none that has an address"


def gloo_address() -> str:
    """The address that gloo listens at: of the interface that is named, else of the host's name, else loopback."""
    here = interfaces()
    named = os.environ.get("GLOO_SOCKET_IFNAME", "").split(",")[0]
    if named:
        return next(iter(here.get(named, [])), "none")
    with contextlib.suppress(OSError):
        for family, kind, protocol, _, place in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM):
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as trial:
                trial.bind(place)
                return str(place[0])
    return "127.0.0.1"


def nccl_interfaces() -> list[str]:
    """Those that NCCL takes: what its variable selects, else InfiniBand's, else all but Docker's and loopback."""
    usable = {name: addresses for name, addresses in interfaces().items() if addresses}
    given = os.environ.get("NCCL_SOCKET_IFNAME", "")
    if given:
        return _selected(given, list(usable))
    choices = (
        [name for name in usable if name.startswith("ib")],
        [name for name in usable if not name.startswith("docker") and not _is_loopback(name)],
        [name for name in usable if name.startswith("docker")],
        list(usable),
    )
    return next((names for names in choices if names), [])


def is_loopback(address: str) -> bool:
    """Whether an address reaches this host alone."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _wrong_for_gloo(value: str, here: dict[str, list[str]]) -> str | None:
    for name in value.split(","):  # every one of them is used
        if name not in here:
            return f"there is no interface {name!r}"
        if not here[name]:
            return f"interface {name!r} has no address"
    return None


def _wrong_for_nccl(value: str, here: dict[str, list[str]]) -> str | None:
    if _selected(value, [name for name in here if here[name]]):
        return None
    return "it leaves no interface" if value.startswith("^") else f"there is no interface {value!r} with an address"


def _selected(value: str, names: list[str]) -> list[str]:
    """NCCL's syntax: beginnings of names in a comma list; `=` before it for whole names, `^` for all others."""
    excludes, value = value.startswith("^"), value.removeprefix("^")
    exact, value = value.startswith("="), value.removeprefix("=")
    parts = [part.partition(":")[0] for part in value.split(",") if part]

    def matches(name: str) -> bool:
        return any(name == part if exact else name.startswith(part) for part in parts)

    return [name for name in names if matches(name) != excludes]


def _is_loopback(name: str) -> bool:
    return name == "lo" or name.startswith("lo:")


def _ipv4() -> list[tuple[str, str]]:
    """Linux tells by an ioctl alone, without a library."""
    room = array.array("B", bytes(_IFREQ * 256))
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("iL", len(room), room.buffer_info()[0])
        used = struct.unpack("iL", fcntl.ioctl(any_socket, _SIOCGIFCONF, request))[0]
        entries = [room.tobytes()[start : start + _IFREQ] for start in range(0, used, _IFREQ)]
        return [(entry[:16].split(b"\0")[0].decode(), socket.inet_ntoa(entry[20:24])) for entry in entries]
    return []


def _ipv6() -> list[tuple[str, str]]:
    """Without link-local ones, which are of no use without a scope."""
    with contextlib.suppress(OSError):
        rows = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
        found = [(row[5], ipaddress.IPv6Address(bytes.fromhex(row[0]))) for row in rows]
        return [(name, str(address)) for name, address in found if not address.is_link_local]
    return []
