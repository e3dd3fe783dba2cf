"""The REST server's settings: where it listens, what it offers, who answers."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from lifecycle import UnixAddress
from rest.errors import RestConfigError
from rest.forgery import ForgeryGuard
from rest.peer import BUNDLES
from rest.routes import Feature
from rest.rules import Rule
from rest.sections import MAX_RULES, LimitsConfig, RuleConfig
from rest.strict import Compatibility

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
    """Section ``[rest]``. The two addresses count only where REST runs on its own.

    ``evidence`` and ``token`` are explained in :mod:`rest.strict`; ``socket``, which needs
    ``rules``, is for containers; ``bundles`` is where kata-agent keeps what it knows of them.
    ``required_header`` is ``Name: value`` for TCP, and lets ``hosts`` stand in Host beside
    loopback.
    """

    bind: str = DEFAULT_BIND
    features: str = Feature.RESOURCE.value
    cdh_addr: str = DEFAULT_CDH
    aa_addr: str = DEFAULT_AGENT
    evidence: Compatibility = Compatibility.STRICT
    token: Compatibility = Compatibility.STRICT
    socket: str | None = None
    bundles: Annotated[str, msgspec.Meta(pattern="^/", max_length=1024)] = str(BUNDLES)
    required_header: str | None = None
    hosts: tuple[str, ...] = ()
    rules: Annotated[tuple[RuleConfig, ...], msgspec.Meta(max_length=MAX_RULES)] = ()
    limits: LimitsConfig = msgspec.field(default_factory=LimitsConfig)

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
        self._check_rules()
        if self.required_header is not None:
            ForgeryGuard.parse(self.required_header, self.hosts)
        elif self.hosts:
            raise RestConfigError(
                "hosts", "set without required_header", hint="Host is looked at together with it"
            )
        if self.limits.connections <= self.limits.requests:
            raise RestConfigError(
                "limits.connections", "not more than limits.requests",
                hint="a connection without a request must be closable for a new one",
            )  # fmt: skip

    def _check_rules(self) -> None:
        if self.socket is not None:
            UnixAddress.parse(self.socket)
            if not self.rules:
                raise RestConfigError(
                    "socket", "set without rules",
                    hint="the socket is there to tell callers apart; add [[rest.rules]]",
                )  # fmt: skip
        names = [rule.name for rule in self.rules]
        for rule in self.rules:
            where = f"rule {rule.name[:40]!r}"
            if names.count(rule.name) > 1:
                raise RestConfigError(where, "there are two of this name")
            if rule.match.is_empty is (rule.who == "container"):
                raise RestConfigError(
                    where, "match and who do not fit each other",
                    hint='a rule for containers needs match, others have none; container = "*" '
                    "is every container with a name",
                )  # fmt: skip
            try:
                Rule.of(rule)
            except ValueError as error:
                raise RestConfigError(
                    where, "a pattern of resources is not repository/type/tag",
                    hint="for example default/model-key/*",
                ) from error  # fmt: skip
