"""Several key brokers: which one a resource URI means, and who stands in when one is away.

Works on sources of resources and knows neither HTTP nor sessions: each broker has a fetcher and
sessions of its own, since a token is good for the KBS that gave it and for no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from kbs.errors import (
    EvidenceTimeoutError,
    HandshakeHeldError,
    KbsError,
    KbsTlsError,
    NoKbsAnsweredError,
    UnknownKbsError,
)
from kbs.hold_off import HoldOff
from kbs.resource_uri import ResourceUri
from kbs.retry import is_transient
from secrecy import Secret
from secrecy.journal import get_logger

log = get_logger("kbs")


class ResourceGetter(Protocol):
    """Gives resources: :class:`kbs.fetcher.ResourceFetcher`, or several of them."""

    async def get(self, uri: ResourceUri) -> Secret:
        """Return the resource."""


def is_absent(error: Exception) -> bool:
    """Whether the broker could not be asked, as opposed to having said no."""
    if isinstance(error, EvidenceTimeoutError):
        return False  # this guest's fault; another broker would get no evidence either
    if isinstance(error, HandshakeHeldError):
        return error.transient
    if isinstance(error, NoKbsAnsweredError):
        return True
    return isinstance(error, KbsTlsError) or (isinstance(error, KbsError) and is_transient(error))


def is_refused(error: Exception) -> bool:
    """Whether the broker, or what stands before it, said no."""
    return isinstance(error, KbsError) and error.decided


@dataclass(slots=True)
class Replica:
    """One address of a key broker. While ``hold`` is on, the others are asked first."""

    url: str
    source: ResourceGetter
    hold: HoldOff = field(default_factory=HoldOff)


class FailoverSource:
    """Asks replicas in their order until one answers. A refusal is an answer, and final.

    A replica that failed goes to the end of the queue while its hold lasts, so that its absence
    costs the first caller only.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        *,
        absent: Callable[[Exception], bool] = is_absent,
    ) -> None:
        self._replicas = tuple(replicas)
        self._absent = absent

    async def get(self, uri: ResourceUri) -> Secret:
        """Return the resource. Raises the refusal, or ``NoKbsAnsweredError`` with every cause."""
        failures: list[tuple[str, Exception]] = []
        for replica in sorted(self._replicas, key=lambda replica: replica.hold.remaining > 0):
            try:
                content = await replica.source.get(uri)
            except Exception as error:
                if not self._absent(error):
                    raise
                replica.hold.failed(error)
                failures.append((replica.url, error))
                log.warning("key broker away", url=replica.url, cause=str(error))
                continue
            replica.hold.succeeded()
            return content
        first = failures[0][1]
        causes = [
            f"{url}: {error.problem if isinstance(error, KbsError) else error}"
            for url, error in failures
        ]
        raise NoKbsAnsweredError(causes, attempted=f"fetching {uri}") from first


class KbsDirectory:
    """Chooses by the host part of the URI: a configured name, or ``host[:port]`` of a URL.

    With a single broker the host is ignored, as guest-components does. With several, an unknown
    one is refused: nobody can have meant "whichever comes first".
    """

    def __init__(self, default: ResourceGetter, by_address: Mapping[str, ResourceGetter]) -> None:
        """``by_address`` empty means that there is one broker. Keys are in lower case."""
        self._default = default
        self._by_address = dict(by_address)

    async def get(self, uri: ResourceUri) -> Secret:
        """Ask the broker that ``uri`` names. Raises :class:`~kbs.errors.UnknownKbsError`."""
        return await self._chosen(uri).get(uri)

    def _chosen(self, uri: ResourceUri) -> ResourceGetter:
        if not uri.address or not self._by_address:
            return self._default
        chosen = self._by_address.get(uri.address.lower())
        if chosen is None:
            raise UnknownKbsError(str(uri), uri.address, sorted(self._by_address))
        return chosen


def address_of(url: str) -> str:
    """Return ``host[:port]`` of a URL as a resource URI would write it, in lower case."""
    return urlsplit(url).netloc.lower()
