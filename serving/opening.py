"""Opens doors: listening sockets, made here or passed by systemd by name, and their servers.

Doors are opened last, when everything behind them can answer, and stay open until the process
ends, whatever happens to the parts behind them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Protocol, assert_never

from lifecycle import ListeningSocket, PassedSockets, UnixAddress, listen_unix
from secrecy.journal import get_logger
from serving.doors import Door, GrpcDoor, UnixDoor
from serving.failure import describe
from ttrpc import Server

log = get_logger("serving")

ACCEPT_PAUSE_SECONDS: Final = 1.0  # before accepting anew on a socket on which it failed


class Drainable(Protocol):
    """A server that can be told to finish."""

    async def drain(self, timeout_s: float) -> None:
        """Take no new calls and return when those under way are answered or cut off."""


class OpenDoors:
    """The doors of this process."""

    def __init__(self) -> None:
        self._servers: list[Drainable] = []

    def add(self, server: Drainable) -> None:
        self._servers.append(server)

    async def drain(self, seconds: float) -> None:
        """Drain all at the same time."""
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                group.create_task(server.drain(seconds))


@asynccontextmanager
async def open_doors(
    doors: Mapping[str, Door], passed: PassedSockets | None = None
) -> AsyncIterator[OpenDoors]:
    """Open every door, in order; at the end close them, cutting off what was not drained.

    Names are those by which systemd passes sockets. Raises :class:`lifecycle.SocketError`; no
    socket file is left behind then.
    """
    passed = passed if passed is not None else PassedSockets({})
    opened = OpenDoors()
    async with AsyncExitStack() as stack:
        for name, door in doors.items():
            match door.address:
                case UnixDoor(unix):
                    opened.add(await _open_ttrpc(name, unix, door, passed, stack))
                case GrpcDoor() as address:
                    passed.refuse(name, "a gRPC door cannot be passed")
                    # HTTP/2 takes a tenth of a second to import; nobody pays it unasked.
                    from serving.grpc_tables import open_grpc

                    opened.add(await stack.enter_async_context(open_grpc(door.tables, address)))
                case unknown:
                    assert_never(unknown)
        yield opened


async def listen(name: str, address: UnixAddress, passed: PassedSockets) -> ListeningSocket:
    """Return the socket passed under ``name``, else a new one of mode 0600.

    Raises :class:`lifecycle.SocketError`.
    """
    return passed.take(name, address) or await listen_unix(address)


async def _open_ttrpc(
    name: str, address: UnixAddress, door: Door, passed: PassedSockets, stack: AsyncExitStack
) -> Server:
    server = Server(door.tables)
    listening = stack.enter_context(await listen(name, address, passed))
    serving = asyncio.create_task(_serve(server, listening), name=f"door {name}")
    stack.push_async_callback(_end, serving)
    return server


async def _serve(server: Server, listening: ListeningSocket) -> None:
    """Serve until drained or cancelled; a failure ends the connections, not the door."""
    while True:
        try:
            await server.serve(listening.sock)
        except Exception as error:  # noqa: BLE001 - nothing but the end may close a door
            door = str(listening.address)
            log.error("door failed", address=door, **describe(error))  # noqa: TRY400
            await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
        else:
            return


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
