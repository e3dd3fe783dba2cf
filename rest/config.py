"""The REST server's settings: where it listens, what it offers, who answers."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

import msgspec

from lifecycle import UnixAddress
from rest.errors import RestConfigError
from rest.routes import Feature

DEFAULT_BIND: Final = "127.0.0.1:8006"
DEFAULT_CDH: Final = "unix:///run/confidential-containers/cdh.sock"
DEFAULT_AGENT: Final = (
    "unix:///run/confidential-containers/attestation-agent/attestation-agent.sock"
)


@dataclass(frozen=True, slots=True)
class BindAddress:
    """A loopback address and a port; port 0 lets the kernel choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> BindAddress:
        """Parse ``127.0.0.1:8006`` or ``[::1]:8006``. Raises :class:`RestConfigError`.

        Only loopback: whoever can reach the server gets resources and tokens without being
        asked who it is.
        """
        host, separator, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            address = ipaddress.ip_address(bare)
        except ValueError as error:
            raise RestConfigError("bind", "not ADDRESS:PORT", hint=f"use {DEFAULT_BIND}") from error
        if not separator or not port.isascii() or not port.isdecimal() or int(port) > 65535:
            raise RestConfigError("bind", "not ADDRESS:PORT", hint=f"use {DEFAULT_BIND}")
        if not address.is_loopback:
            raise RestConfigError(
                "bind", f"{address} is not a loopback address", hint=f"use {DEFAULT_BIND}"
            )
        return cls(str(address), int(port))


class RestConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Section ``[rest]``. The two addresses count only where REST runs on its own."""

    bind: str = DEFAULT_BIND
    features: str = Feature.RESOURCE.value
    cdh_addr: str = DEFAULT_CDH
    aa_addr: str = DEFAULT_AGENT

    @property
    def feature(self) -> Feature:
        """Raises :class:`RestConfigError` for an unknown one."""
        try:
            return Feature(self.features)
        except ValueError as error:
            raise RestConfigError(
                "features",
                f"{self.features[:40]!r} is unknown",
                hint=f"use one of {', '.join(Feature)}",
            ) from error

    def check(self) -> None:
        """Raises :class:`RestConfigError` or ``lifecycle.SocketError``."""
        BindAddress.parse(self.bind)
        UnixAddress.parse(self.cdh_addr)
        UnixAddress.parse(self.aa_addr)
        _ = self.feature
