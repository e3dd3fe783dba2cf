"""From configuration to a source of resources: key brokers, their replicas and their sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cdh.agent_client import AgentSessionSource
from cdh.config import OFFLINE_KBC, CdhConfig, KbcSection, NamedKbc
from cdh.errors import AgentRefusedError, ConfigurationRefusedError
from cdh.offline import OfflineResources
from cdh.resources import NoResources, ResourceSource
from kbs import (
    FailoverSource,
    KbsClient,
    KbsDirectory,
    KbsTls,
    Replica,
    ResourceFetcher,
    RetryPolicy,
    RideThrough,
    SessionSource,
    address_of,
    is_absent,
    is_refused,
)
from kbs.fetcher import FETCH_SECONDS
from lifecycle import RouteEvents, UnixAddress
from secrecy.journal import get_logger

log = get_logger("cdh")


class SessionsByUrl(Protocol):
    """Somebody who has sessions with several key brokers: the agent."""

    def __call__(self, url: str | None) -> SessionSource:
        """Return the source for ``url`` (no end slash); None is the agent's first one."""


@dataclass(frozen=True, slots=True)
class Broker:
    """One key broker: its name (empty for the first one), addresses and state."""

    name: str
    urls: tuple[str, ...]
    source: RideThrough


@dataclass(frozen=True, slots=True)
class Opened:
    """The source, and the key brokers behind it."""

    source: ResourceSource
    brokers: tuple[Broker, ...] = ()


def same_process(primary: SessionSource, by_url: Mapping[str, SessionSource]) -> SessionsByUrl:
    """Take sessions from the agent of this process, which attests to configured brokers only."""

    def sessions(url: str | None) -> SessionSource:
        source = primary if url is None else by_url.get(url)
        if source is None:
            raise ConfigurationRefusedError(
                "kbc",
                f"the agent is not configured for the key broker {address_of(url or '')!r}",
                hint="add it to agent.token_configs.kbs.urls or agent.token_configs.others",
            )
        return source

    return sessions


async def open_brokers(
    config: CdhConfig, sessions: SessionsByUrl | None, stack: AsyncExitStack
) -> Opened:
    """Make clients and fetchers, which ``stack`` closes. Connects nowhere.

    Without ``sessions`` the agent's socket is asked. Raises ``kbs.KbsError`` for an address or
    trust anchor that cannot be used, :class:`~cdh.errors.OfflineFileError` for a file.
    """
    kbc = config.kbc
    if kbc.name == OFFLINE_KBC:
        return Opened(await _offline(kbc, stack))
    if kbc.serve_stale_seconds > 0:
        log.warning(
            "secrets are served while their key broker is away",
            seconds=kbc.serve_stale_seconds,
            reason="kbc.serve_stale_seconds",
        )
    if not kbc.url:
        log.warning("no key broker configured", hint="set kbc.url")
        return Opened(NoResources())
    routes = await stack.enter_async_context(RouteEvents())
    opening = _Opening(kbc, sessions or _agent_sessions(config, stack), stack, routes)
    default = await opening.broker("", (kbc.url, *kbc.urls), kbc)
    others = [
        await opening.broker(named.name, (named.url, *named.urls), named) for named in kbc.named
    ]
    by_address: dict[str, ResourceSource] = {}
    for other in others:
        by_address |= {other.name.lower(): other.source, address_of(other.urls[0]): other.source}
    if others:
        by_address.setdefault(address_of(kbc.url), default.source)
    return Opened(KbsDirectory(default.source, by_address), (default, *others))


async def _offline(kbc: KbcSection, stack: AsyncExitStack) -> OfflineResources:
    paths = [Path(path) for path in kbc.offline_files]
    resources = await asyncio.to_thread(OfflineResources.read, paths)
    stack.callback(resources.close)
    log.warning(
        "secrets come from files, attestation guards none of them",
        reason=OFFLINE_KBC,
        resources=len(resources),
        hint="whoever can read the guest image can read them",
    )
    return resources


def _agent_sessions(config: CdhConfig, stack: AsyncExitStack) -> SessionsByUrl:
    address = UnixAddress.parse(config.aa.aa_socket)

    def sessions(url: str | None) -> SessionSource:
        source = AgentSessionSource(address, kbs_url=url)
        stack.push_async_callback(source.aclose)
        return source

    return sessions


def _absent(error: Exception) -> bool:
    """Over a socket the agent says no more than whether a refusal was the reason."""
    if isinstance(error, AgentRefusedError):
        return not error.refused
    return is_absent(error)


def _refused(error: Exception) -> bool:
    return error.refused if isinstance(error, AgentRefusedError) else is_refused(error)


class _Opening:
    def __init__(
        self,
        kbc: KbcSection,
        sessions: SessionsByUrl,
        stack: AsyncExitStack,
        routes: RouteEvents,
    ) -> None:
        self._routes = routes
        self._kbc = kbc
        self._sessions: Callable[[str | None], SessionSource] = sessions
        self._stack = stack

    async def broker(
        self, name: str, urls: tuple[str, ...], trust: KbcSection | NamedKbc
    ) -> Broker:
        """Open one broker with all its addresses."""
        addresses = tuple(dict.fromkeys(urls))
        replicas = []
        for number, url in enumerate(addresses):
            # The very first address is what an agent of the reference has its only session with.
            first = not name and number == 0
            fetcher = await self._fetcher(url, trust, len(addresses), ask_by_url=not first)
            replicas.append(Replica(url, fetcher))
        inner = (
            replicas[0].source if len(replicas) == 1 else FailoverSource(replicas, absent=_absent)
        )
        seconds = self._kbc.serve_stale_seconds
        source = RideThrough(inner, seconds, absent=_absent, refused=_refused)
        self._stack.callback(source.close)
        return Broker(name, addresses, source)

    async def _fetcher(
        self, url: str, trust: KbcSection | NamedKbc, addresses: int, *, ask_by_url: bool
    ) -> ResourceFetcher:
        tls = KbsTls(ca_pem=trust.kbs_cert, pins=frozenset(trust.pins))
        retries = RetryPolicy(attempts=2) if addresses > 1 else None
        client = KbsClient(
            url, tls, proxy=trust.proxy, retries=retries, network_sleep=self._routes.sleep
        )
        await self._stack.enter_async_context(client)
        fetcher = ResourceFetcher(
            client,
            self._sessions(client.base_url if ask_by_url else None),
            cache_seconds=self._kbc.cache_seconds,
            fetch_seconds=FETCH_SECONDS / addresses,
        )
        self._stack.callback(fetcher.close)
        return fetcher
