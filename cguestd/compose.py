"""The composition root: which services run, in which order they open, drain and close.

Inside one process the hub takes its session from the agent, and REST takes its answers from both,
by function calls through the same ports that are served over sockets otherwise; each call goes to
the instance that runs now, so that a part can be opened again while the others go on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from agent.compose import RunningAgent
from agent.serving import agent_doors, agent_part, agent_probe
from cdh.compose import RunningHub
from cdh.mounts.supervisor import MountSupervisor
from cdh.serving import hub_door, hub_part, hub_probe, mounts_part
from cguestd.config import CguestdConfig, Service
from cguestd.present_backends import PresentAttestation, PresentResources
from cguestd.receipting import (
    RecordedAttestation,
    RecordedResources,
    checkpoints,
    open_receipts,
    recorded_doors,
    sink_of,
)
from cguestd.reloading import Reloader, Rereading
from cguestd.sessions import PresentSessions, sessions_by_url
from lifecycle import PassedSockets, Readiness, Shutdown, UnixAddress
from receipts import ReceiptLog
from rest.backends import (
    AttestationBackend,
    Backends,
    ResourceBackend,
    TtrpcAttestation,
    TtrpcResources,
)
from rest.config import RestConfig
from rest.counts import RestCounts
from rest.serving import open_rest_doors, passed_names
from secrecy.journal import get_logger
from serving.doors import Door
from serving.opening import listen, open_doors
from serving.supervisor import Part, Supervised, Supervisor
from serving.watchdog import Probe, serve_until

log = get_logger("cguestd")
DRAIN_SECONDS: Final = 10.0  # for calls in flight; systemd and kata-agent wait longer


@dataclass(slots=True)
class Parts:
    """What runs under supervision. ``agent`` and ``hub`` are the instances of now."""

    supervisor: Supervisor
    agents: Supervised[RunningAgent] | None = None
    mounts: Supervised[MountSupervisor] | None = None
    hubs: Supervised[RunningHub] | None = None
    rest_counts: RestCounts | None = None
    receipts: ReceiptLog | None = None

    @property
    def agent(self) -> RunningAgent | None:
        return None if self.agents is None else self.agents.present.value

    @property
    def hub(self) -> RunningHub | None:
        return None if self.hubs is None else self.hubs.present.value

    def agent_part(self, config: CguestdConfig) -> Part[RunningAgent]:
        """Return the agent."""
        return agent_part(config.agent, receipts=sink_of(self.receipts))

    def hub_part(self, config: CguestdConfig) -> Part[RunningHub] | None:
        """Return the hub over what runs here; ``None`` where none does."""
        if self.mounts is None:
            return None
        receipts = sink_of(self.receipts)
        if self.agents is None:
            return hub_part(config.cdh, self.mounts.present, receipts=receipts)
        agent = self.agents.present
        sessions = PresentSessions(agent)
        return hub_part(
            config.cdh, self.mounts.present, sessions, lambda: sessions_by_url(agent), receipts
        )


@asynccontextmanager
async def open_services(config: CguestdConfig, services: Sequence[Service]) -> AsyncIterator[Parts]:
    """Open agent and hub, without sockets. Needs neither network nor key broker.

    Raises the errors of ``agent``, ``cdh``, ``receipts`` and ``lifecycle``; whatever was opened is
    closed.
    """
    async with open_receipts(config.receipts) as receipts, Supervisor() as supervisor:
        parts = Parts(supervisor, receipts=receipts)
        if "agent" in services:
            parts.agents = await supervisor.start(parts.agent_part(config))
        if "hub" in services:
            parts.mounts = await supervisor.start(mounts_part(config.cdh))
            if (hub := parts.hub_part(config)) is not None:
                parts.hubs = await supervisor.start(hub)
        async with checkpoints(receipts, partial(_measure, config, parts)):
            yield parts


async def _measure(
    config: CguestdConfig, parts: Parts, domain: str, operation: str, content: str
) -> int:
    """Measure through the agent of this process, or the one that the hub asks."""
    if parts.agents is not None:
        return await PresentAttestation(parts.agents.present).extend(domain, operation, content)
    remote = TtrpcAttestation(UnixAddress.parse(config.cdh.aa.aa_socket))
    try:
        return await remote.extend(domain, operation, content)
    finally:
        await remote.aclose()


@asynccontextmanager
async def rest_backends(config: RestConfig, parts: Parts) -> AsyncIterator[Backends]:
    """A service of this process where it runs here, its socket where it does not."""
    async with AsyncExitStack() as stack:
        resources: ResourceBackend
        attestation: AttestationBackend
        if parts.hubs is not None:
            resources = PresentResources(parts.hubs.present)
        else:
            remote_hub = TtrpcResources(UnixAddress.parse(config.cdh_addr))
            stack.push_async_callback(remote_hub.aclose)
            resources = remote_hub
        if parts.agents is not None:
            attestation = PresentAttestation(parts.agents.present)
        else:
            remote_agent = TtrpcAttestation(UnixAddress.parse(config.aa_addr))
            stack.push_async_callback(remote_agent.aclose)
            attestation = remote_agent
        if parts.receipts is not None:
            resources = RecordedResources(resources)
            attestation = RecordedAttestation(attestation, parts.receipts)
        yield Backends(resources, attestation)


async def serve(
    config: CguestdConfig,
    services: Sequence[Service],
    shutdown: Shutdown,
    rereading: Rereading,
) -> None:
    """Serve until ``shutdown``; sockets appear last, and go first.

    A SIGHUP is answered by ``rereading``. Order of the end: no new connections, calls in flight
    answered (10 s), mounts flushed and removed, sessions closed. Raises what opening raises,
    before there is a socket; later failures are the supervisor's.
    """
    readiness = Readiness()
    passed = PassedSockets.of_process()
    async with open_services(config, services) as parts, AsyncExitStack() as stack:
        doors: dict[str, Door] = {}
        probes: dict[str, Probe | None] = {}
        if parts.agents is not None:
            doors |= recorded_doors(
                agent_doors(config.agent, parts.agents), parts.receipts, of_agent=True
            )
            probes["agent"] = agent_probe(doors["agent"].address)
        if parts.hubs is not None:
            doors |= recorded_doors(
                hub_door(config.cdh, parts.hubs), parts.receipts, of_agent=False
            )
            probes["hub"] = hub_probe(doors["hub"].address)
        passed.require_only(*doors, *_other_names(config, services))
        opened = await stack.enter_async_context(open_doors(doors, passed))
        if "rest" in services:
            parts.rest_counts = RestCounts()
            backends = await stack.enter_async_context(rest_backends(config.rest, parts))
            probes["rest"] = await stack.enter_async_context(
                open_rest_doors(config.rest, backends, passed, parts.rest_counts)
            )
        reloader = Reloader(config, parts, readiness)
        if config.metrics.socket is not None:
            await _serve_metrics(config.metrics.socket, parts, reloader, passed, stack)
        await stack.enter_async_context(reloader.on_hangup(shutdown, rereading))
        log.info("serving", services=list(services))
        await serve_until(shutdown, readiness, probes)
        await opened.drain(DRAIN_SECONDS)


def _other_names(config: CguestdConfig, services: Sequence[Service]) -> list[str]:
    """Return the names of passed sockets that are no doors."""
    metrics = [] if config.metrics.socket is None else ["metrics"]
    return metrics + (passed_names(config.rest) if "rest" in services else [])


async def _serve_metrics(
    socket: str, parts: Parts, reloader: Reloader, passed: PassedSockets, stack: AsyncExitStack
) -> None:
    # As REST: who has no metrics does not pay for the import of aiohttp's server.
    from cguestd.metrics import families, process_families, receipt_families, rest_families
    from cguestd.metrics_socket import open_metrics
    from cguestd.metrics_text import render

    def text() -> str:
        found = families(parts.agent, parts.hub)
        if parts.rest_counts is not None:
            found += rest_families(parts.rest_counts.samples())
        if parts.receipts is not None:
            found += receipt_families(parts.receipts.counts())
        found += process_families(parts.supervisor.parts, reloader.counts)
        return render(found)

    listening = await listen("metrics", UnixAddress.parse(socket), passed)
    await stack.enter_async_context(open_metrics(listening, text))
