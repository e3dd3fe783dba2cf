"""Serving an agent: as a part of a process, and as a process of its own."""

from __future__ import annotations

from typing import Final

from agent.compose import RunningAgent, open_agent
from agent.config import AgentConfig
from lifecycle import PassedSockets, Readiness, Shutdown
from protos import attestation_agent_pb2 as aa
from protos import services
from receipts import NO_RECEIPTS, ReceiptSink
from serving.doors import Door, DoorAddress, UnixDoor, parse_door
from serving.opening import open_doors
from serving.supervisor import Part, Supervised, Supervisor
from serving.switchboard import Switchboard
from serving.watchdog import SelfRequest, serve_until
from tdx.initdata import Initdata
from ttrpc import ServiceTable

DRAIN_SECONDS: Final = 5.0  # ttrpc-rust waits as long for a connection


def agent_part(
    config: AgentConfig,
    initdata: Initdata | None = None,
    receipts: ReceiptSink = NO_RECEIPTS,
) -> Part[RunningAgent]:
    """One agent at a time: it is the only writer of its event log."""
    return Part(
        "agent",
        "the attestation agent",
        lambda: open_agent(config, initdata=initdata, receipts=receipts),
        lambda running: [running.background],
        exclusive=True,
    )


def agent_doors(config: AgentConfig, agent: Supervised[RunningAgent]) -> dict[str, Door]:
    """Return the doors of an agent that has been started, by the names of their sockets.

    They stay when the agent behind them is opened again. Raises
    :class:`serving.errors.PartUnavailableError` if it has failed already.
    """
    first = agent.present.require()
    texts = {
        "agent": config.socket,
        "keyprovider": config.keyprovider_socket,
        "getresource": config.getresource_socket,
    }
    names = {parse_door(text): name for name, text in texts.items() if text is not None}

    def stable(address: DoorAddress) -> Door:
        def pick(running: RunningAgent) -> list[ServiceTable]:
            return [table for d in running.doors if d.address == address for table in d.tables]

        return Door(address, Switchboard(agent.present, pick).tables(first))

    return {names[door.address]: stable(door.address) for door in first.doors}


def agent_probe(address: DoorAddress) -> SelfRequest | None:
    """Return a request that an agent answers without its TEE; ``None`` for a gRPC door."""
    if not isinstance(address, UnixDoor):
        return None
    return SelfRequest(
        address.unix,
        services.ATTESTATION_AGENT,
        "GetTeeType",
        aa.GetTeeTypeRequest(),
        aa.GetTeeTypeResponse,
    )


async def serve(config: AgentConfig, initdata: Initdata | None, shutdown: Shutdown) -> None:
    """Serve until ``shutdown``; the sockets appear when everything else is ready.

    Raises the errors of :func:`agent.compose.open_agent` and ``lifecycle.SocketError``, before
    there is a socket; later failures are the supervisor's.
    """
    passed = PassedSockets.of_process()
    async with Supervisor() as supervisor:
        agent = await supervisor.start(agent_part(config, initdata))
        doors = agent_doors(config, agent)
        passed.require_only(*doors)
        async with open_doors(doors, passed) as opened:
            probes = {"agent": agent_probe(doors["agent"].address)}
            await serve_until(shutdown, Readiness(), probes)
            await opened.drain(DRAIN_SECONDS)
