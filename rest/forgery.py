"""Requests that somebody else made a client send: the header that tells them, and the Host.

A web page, or a server that fetches addresses it is given, can send a request to loopback, but
not with a header of its own choice; cloud metadata services ask for one for that reason. A name
that resolves to loopback (DNS rebinding) stands in the Host header. For TCP only, and off by
default, since clients of the reference send no such header.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from rest.errors import RestConfigError
from rest.routes import Reply

_FIELD: Final = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)"
)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ForgeryGuard:
    """Header ``name`` must be there once with ``value``; Host must be loopback or one of ours."""

    name: str
    value: str
    hosts: frozenset[str]

    @classmethod
    def parse(cls, header: str, hosts: Sequence[str]) -> Self:
        """``header`` is ``Name: value``. Raises :class:`RestConfigError`."""
        found = _FIELD.fullmatch(header)
        if found is None:
            raise RestConfigError(
                "required_header", "not Name: value", hint="for example X-Cguest-Request: yes"
            )
        return cls(found[1], found[2], frozenset(host.lower() for host in hosts))

    def refusal(
        self, values: Sequence[str], hosts: Sequence[str], authority: str | None
    ) -> Reply | None:
        """Return None for a request that may go on.

        ``values`` are those of the header in the request, ``hosts`` those of Host, ``authority``
        is what an absolute request target names, which counts as well.
        """
        if list(values) != [self.value]:
            # Not with which value: the answer goes to the log, too, and so to the host's console.
            return Reply(403, f"Forbidden: header {self.name} is required".encode())
        named = [*hosts, *([authority] if authority is not None else [])]
        if len(hosts) != 1 or not all(self._is_ours(host) for host in named):
            return Reply(403, b"Forbidden: Host is neither loopback nor configured")
        return None

    def _is_ours(self, authority: str) -> bool:
        found = _AUTHORITY.fullmatch(authority)
        if found is None:
            return False
        host = found[1].strip("[]").lower()
        if host == "localhost" or host in self.hosts:
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False
