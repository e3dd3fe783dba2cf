"""Where services are reached: the text of an address, what it means, and what is behind it.

One grammar for every configuration key and flag that names a door of the guest services. Opening a
door belongs to :mod:`serving.opening`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from lifecycle import SocketError, UnixAddress
from ttrpc import ServiceTable

GRPC_UNIX: Final = "grpc+"  # before unix:///path
HINT: Final = "write unix:///path, grpc+unix:///path, 127.0.0.1:PORT or [::1]:PORT"
MAX_SHOWN: Final = 200  # characters of a wrong address that go into the message
_LOOPBACK: Final = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})"
)


@dataclass(frozen=True, slots=True)
class UnixDoor:
    """ttRPC on a unix socket: what kata-agent and the reference components speak."""

    unix: UnixAddress

    def __str__(self) -> str:
        return str(self.unix)


@dataclass(frozen=True, slots=True)
class LoopbackAddress:
    """A TCP port that only this machine reaches. ``host`` is a loopback IP address, bare."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class GrpcDoor:
    """gRPC on loopback, as the gRPC builds of the reference, or on a unix socket of mode 0600."""

    target: LoopbackAddress | UnixAddress

    def __str__(self) -> str:
        prefix = GRPC_UNIX if isinstance(self.target, UnixAddress) else ""
        return f"{prefix}{self.target}"


DoorAddress: TypeAlias = UnixDoor | GrpcDoor


@dataclass(frozen=True, slots=True)
class Door:
    """One address and the service tables that answer there."""

    address: DoorAddress
    tables: Sequence[ServiceTable]


def parse_door(text: str) -> DoorAddress:
    """Read the address of a door.

    ``unix:///path`` is ttRPC, ``grpc+unix:///path``, ``127.0.0.1:50002`` and ``[::1]:50002`` are
    gRPC. Raises :class:`lifecycle.SocketError` for anything else; names of hosts, addresses that
    other machines reach and port 0 included.
    """
    if text.startswith(GRPC_UNIX):
        return GrpcDoor(UnixAddress.parse(text.removeprefix(GRPC_UNIX)))
    if text.startswith("unix:"):
        return UnixDoor(UnixAddress.parse(text))
    match = _LOOPBACK.fullmatch(text)
    if match is None:
        raise SocketError(text[:MAX_SHOWN], "not an address of a door", hint=HINT)
    host = _loopback(match["v6"] or match["v4"], text)
    port = int(match["port"])
    if not 0 < port < 1 << 16:
        raise SocketError(text[:MAX_SHOWN], "the port is not from 1 to 65535")
    return GrpcDoor(LoopbackAddress(host, port))


def _loopback(host: str, text: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise SocketError(text[:MAX_SHOWN], "not an IP address", hint=HINT) from error
    if not address.is_loopback:
        raise SocketError(
            text[:MAX_SHOWN], "not a loopback address", hint="secrets do not leave this machine"
        )
    return str(address)
