"""Serving a hub: as parts of a process, and as a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from cdh.compose import RunningHub, open_hub, open_mounts
from cdh.config import CdhConfig
from cdh.mounts.supervisor import MountSupervisor
from kbs import SessionSource
from lifecycle import PassedSockets, Readiness, Shutdown
from protos import cguest_pb2, services
from receipts import NO_RECEIPTS, ReceiptSink
from serving.doors import Door, DoorAddress, UnixDoor, parse_door
from serving.opening import open_doors
from serving.present import Present
from serving.supervisor import Part, Supervised, Supervisor
from serving.switchboard import Switchboard
from serving.watchdog import SelfRequest, serve_until

DRAIN_SECONDS: Final = 10.0


def mounts_part(config: CdhConfig) -> Part[MountSupervisor]:
    """The mounts, which stay when the hub is opened again."""
    return Part(
        "mounts", "the mounts", lambda: open_mounts(config), lambda mounts: [mounts.run], True
    )


def hub_part(
    config: CdhConfig,
    mounts: Present[MountSupervisor],
    sessions: SessionSource | None = None,
    by_url: Callable[[], Mapping[str, SessionSource]] = dict,
    receipts: ReceiptSink = NO_RECEIPTS,
) -> Part[RunningHub]:
    """The hub over the mounts of now; ``by_url`` is asked whenever the hub is opened."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[RunningHub]:
        held = await mounts.arrival()
        async with open_hub(config, sessions, by_url(), mounts=held, receipts=receipts) as running:
            yield running

    def background(running: RunningHub) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        held = running.mounts
        return [running.background, lambda: mounts.fail_with(held)]

    return Part("hub", "the data hub", opening, background)


def hub_door(config: CdhConfig, hub: Supervised[RunningHub]) -> dict[str, Door]:
    """Return the door of a hub that has been started; it stays when that is opened again."""
    board = Switchboard(hub.present, lambda running: running.tables)
    return {"hub": Door(parse_door(config.socket), board.tables(hub.present.require()))}


def hub_probe(address: DoorAddress) -> SelfRequest | None:
    """Return a request that a hub answers by itself; ``None`` for a gRPC door."""
    if not isinstance(address, UnixDoor):
        return None
    return SelfRequest(
        address.unix,
        services.HUB_STATUS,
        "GetStatus",
        cguest_pb2.GetHubStatusRequest(),
        cguest_pb2.HubStatus,
    )


async def serve(config: CdhConfig, shutdown: Shutdown) -> None:
    """Serve until asked to stop; then finish calls, remove the mounts, and return.

    Raises the errors of :func:`cdh.compose.open_hub` and ``lifecycle.SocketError``, before there
    is a socket; later failures are the supervisor's.
    """
    passed = PassedSockets.of_process()
    async with Supervisor() as supervisor:
        mounts = await supervisor.start(mounts_part(config))
        hub = await supervisor.start(hub_part(config, mounts.present))
        doors = hub_door(config, hub)
        passed.require_only(*doors)
        async with open_doors(doors, passed) as opened:
            probes = {"hub": hub_probe(doors["hub"].address)}
            await serve_until(shutdown, Readiness(), probes)
            await opened.drain(DRAIN_SECONDS)
