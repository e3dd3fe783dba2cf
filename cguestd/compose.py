"""The composition root: which services run, in which order they open, drain and close.

Inside one process the hub takes its session from the agent, and REST takes its answers from both,
by function calls through the same ports that are served over sockets otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from agent.compose import RunningAgent, open_agent
from cdh.compose import RunningHub, open_hub
from cguestd.config import CguestdConfig, Service
from cguestd.local_backends import LocalAttestation, LocalResources
from lifecycle import Readiness, Shutdown, UnixAddress, listen_unix
from rest.backends import (
    AttestationBackend,
    Backends,
    ResourceBackend,
    TtrpcAttestation,
    TtrpcResources,
)
from rest.config import RestConfig
from secrecy.journal import get_logger
from ttrpc import Server, ServiceTable

log = get_logger("cguestd")
DRAIN_SECONDS: Final = 10.0  # for calls in flight; systemd and kata-agent wait longer


@dataclass(slots=True)
class Parts:
    """What was opened. Servers are drained and background work is cancelled in this order."""

    agent: RunningAgent | None = None
    hub: RunningHub | None = None
    servers: list[Server] = field(default_factory=list)
    background: list[Callable[[], Coroutine[None, None, None]]] = field(default_factory=list)


@asynccontextmanager
async def open_services(config: CguestdConfig, services: Sequence[Service]) -> AsyncIterator[Parts]:
    """Open agent and hub, without sockets. Needs neither network nor key broker.

    Raises the errors of ``agent``, ``cdh`` and ``lifecycle``; whatever was opened is closed.
    """
    parts = Parts()
    async with AsyncExitStack() as stack:
        if "agent" in services:
            parts.agent = await stack.enter_async_context(open_agent(config.agent))
            parts.background.append(parts.agent.background)
        if "hub" in services:
            sessions = parts.agent.sessions if parts.agent is not None else None
            by_url = parts.agent.kbs_sessions.by_url if parts.agent is not None else None
            parts.hub = await stack.enter_async_context(open_hub(config.cdh, sessions, by_url))
            parts.background.append(parts.hub.background)
        yield parts


@asynccontextmanager
async def rest_backends(config: RestConfig, parts: Parts) -> AsyncIterator[Backends]:
    """A service of this process where it runs here, its socket where it does not."""
    async with AsyncExitStack() as stack:
        resources: ResourceBackend
        attestation: AttestationBackend
        if parts.hub is not None:
            resources = LocalResources(parts.hub.hub)
        else:
            remote_hub = TtrpcResources(UnixAddress.parse(config.cdh_addr))
            stack.push_async_callback(remote_hub.aclose)
            resources = remote_hub
        if parts.agent is not None:
            attestation = LocalAttestation(parts.agent)
        else:
            remote_agent = TtrpcAttestation(UnixAddress.parse(config.aa_addr))
            stack.push_async_callback(remote_agent.aclose)
            attestation = remote_agent
        yield Backends(resources, attestation)


async def serve(config: CguestdConfig, services: Sequence[Service], shutdown: Shutdown) -> None:
    """Serve until ``shutdown``; sockets appear last, and go first.

    Order of the end: no new connections, calls in flight answered (10 s), mounts flushed and
    removed, sessions closed.
    """
    readiness = Readiness()
    async with (
        open_services(config, services) as parts,
        AsyncExitStack() as sockets,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(work()) for work in parts.background]
        if parts.agent is not None:
            await _listen(config.agent.socket, parts.agent.tables, parts, group, sockets)
        if parts.hub is not None:
            await _listen(config.cdh.socket, parts.hub.tables, parts, group, sockets)
        if "rest" in services:
            # aiohttp's server costs a fifth of a second to import; the others do without it.
            from rest.app import open_rest

            backends = await sockets.enter_async_context(rest_backends(config.rest, parts))
            await sockets.enter_async_context(open_rest(config.rest, backends))
        if config.metrics.socket is not None:
            await _serve_metrics(config.metrics.socket, parts, sockets)
        readiness.ready()
        log.info("serving", services=list(services))
        await shutdown.wait()
        readiness.stopping()
        await asyncio.gather(*(server.drain(DRAIN_SECONDS) for server in parts.servers))
        for task in tasks:
            task.cancel()


async def _serve_metrics(socket: str, parts: Parts, sockets: AsyncExitStack) -> None:
    # As REST: who has no metrics does not pay for the import of aiohttp's server.
    from cguestd.metrics import families
    from cguestd.metrics_socket import open_metrics
    from cguestd.metrics_text import render

    def text() -> str:
        return render(families(parts.agent, parts.hub))

    await sockets.enter_async_context(open_metrics(UnixAddress.parse(socket), text))


async def _listen(
    socket: str,
    tables: Sequence[ServiceTable],
    parts: Parts,
    group: asyncio.TaskGroup,
    sockets: AsyncExitStack,
) -> None:
    server = Server(tables)
    listening = sockets.enter_context(await listen_unix(UnixAddress.parse(socket)))
    group.create_task(server.serve(listening.sock))
    parts.servers.append(server)
