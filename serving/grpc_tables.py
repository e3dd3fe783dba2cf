"""Service tables over gRPC: the reference's gRPC builds, for the same handlers as over ttRPC.

Cleartext HTTP/2 on a loopback port or a unix socket. Unary methods only; a method that streams is
answered UNIMPLEMENTED. Imported when a gRPC door is configured and not before: grpclib and h2 are
start-up time that nobody else should pay.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, assert_never

from lifecycle import SocketError, UnixAddress, listen_unix
from lifecycle.sockets import BACKLOG, ListeningSocket
from secrecy.journal import get_logger
from serving.doors import GrpcDoor, LoopbackAddress
from serving.grpc_call import MethodIndex
from serving.grpc_connection import Budget, Calls, CommonBudgets, GrpcConnection, GrpcLimits
from ttrpc import ServiceTable
from ttrpc.accepting import OVERLOAD_PAUSE_S, OVERLOADED, PEER_LEFT, credentials_of

log = get_logger("grpc")

__all__ = ["GrpcLimits", "GrpcListener", "GrpcServer", "open_grpc"]

FAULT_PAUSE_S: Final = 1.0


class GrpcServer:
    """Serves one set of tables on listening sockets; used as :class:`ttrpc.Server` is."""

    def __init__(self, tables: Sequence[ServiceTable], limits: GrpcLimits | None = None) -> None:
        """Raises :class:`ttrpc.ServiceTableError` if two tables have the same name."""
        self._methods = MethodIndex(tables)
        self._limits = limits if limits is not None else GrpcLimits()
        self._budgets = CommonBudgets(
            Budget(self._limits.request_bytes), Budget(self._limits.reply_bytes)
        )
        self._connections: set[GrpcConnection] = set()
        self._left = asyncio.Event()  # a connection has gone
        self._stopping = asyncio.Event()
        self._serving = 0
        self._idle = asyncio.Event()  # no serve() is running
        self._idle.set()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def serve(self, sock: socket.socket) -> None:
        """Accept on a listening stream socket and serve, until cancelled or drained.

        Cancellation cancels all calls, waits for them and closes the connections. ``sock`` is made
        non-blocking and stays open; while accepting fails, it is tried again.
        """
        sock.setblocking(False)
        self._serving += 1
        self._idle.clear()
        opened: set[GrpcConnection] = set()
        try:
            async with asyncio.TaskGroup() as group:
                accepting = group.create_task(self._accept(sock, group, opened))
                try:
                    await self._stopping.wait()
                    accepting.cancel()
                    await _all_quiet(opened)
                finally:
                    for connection in tuple(opened):
                        connection.close()
        finally:
            self._serving -= 1
            if self._serving == 0:
                self._idle.set()

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, let calls in flight finish, then close; every ``serve`` returns.

        Clients are told to open no further calls, and new ones get UNAVAILABLE. What still runs
        after ``timeout_s`` seconds is cancelled, and only then waited for without limit.
        Cancelling ``drain`` leaves the server draining.
        """
        self._stopping.set()
        for connection in tuple(self._connections):
            connection.go_away()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("calls cut off", connections=len(self._connections), seconds=timeout_s)
            for connection in tuple(self._connections):
                connection.close()
            await self._idle.wait()

    async def _accept(
        self, sock: socket.socket, group: asyncio.TaskGroup, opened: set[GrpcConnection]
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(sock)
            except OSError as error:
                await _recover(error)
                continue
            try:
                await self._take(accepted, group, opened)
            except Exception as error:  # noqa: BLE001 - one newcomer's failure is not the others'
                log.error("connection not taken", error=type(error).__name__)  # noqa: TRY400
                await asyncio.sleep(OVERLOAD_PAUSE_S)

    async def _take(
        self, accepted: socket.socket, group: asyncio.TaskGroup, opened: set[GrpcConnection]
    ) -> None:
        loop = asyncio.get_running_loop()
        connection = None
        try:
            await self._make_room()
            connection = self._connection(accepted, group, opened)
            await loop.connect_accepted_socket(partial(_itself, connection), accepted)
        except BaseException:  # cleaned up and passed on, cancellation included
            accepted.close()
            if connection is not None:
                connection.abort()
            raise

    async def _make_room(self) -> None:
        """Wait until there is one connection less than the limit.

        Of those without a call the one that was used least recently is closed: gRPC clients
        connect anew by themselves, and one that only holds a connection must not keep others out.
        """
        while len(self._connections) >= self._limits.connections:
            idle = [one for one in self._connections if not one.calls]
            self._left.clear()
            if idle:
                oldest = min(idle, key=lambda one: one.last_used)
                oldest.go_away()
                oldest.close()
            await self._left.wait()

    def _connection(
        self, accepted: socket.socket, group: asyncio.TaskGroup, opened: set[GrpcConnection]
    ) -> GrpcConnection:
        def forget(connection: GrpcConnection) -> None:
            opened.discard(connection)
            self._connections.discard(connection)
            self._left.set()

        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        calls = Calls(self._methods, self._limits, self._budgets, credentials_of(accepted), group)
        connection = GrpcConnection(calls, self._limits, forget)
        opened.add(connection)
        self._connections.add(connection)
        return connection


def _itself(connection: GrpcConnection) -> GrpcConnection:
    return connection


async def _all_quiet(connections: set[GrpcConnection]) -> None:
    for connection in tuple(connections):
        await connection.calls.quiet.wait()


async def _recover(error: OSError) -> None:
    """Wait until accepting may work again: nothing but the end closes a door."""
    if error.errno in PEER_LEFT:
        return
    log.warning("accepting failed", reason=errno.errorcode.get(error.errno or 0, "unknown"))
    await asyncio.sleep(OVERLOAD_PAUSE_S if error.errno in OVERLOADED else FAULT_PAUSE_S)


@dataclass(frozen=True, slots=True)
class GrpcListener:
    """A door that is open. ``port`` is 0 for a unix socket."""

    address: GrpcDoor
    port: int
    server: GrpcServer
    serving: asyncio.Task[None]

    async def drain(self, timeout_s: float) -> None:
        """As :meth:`GrpcServer.drain`."""
        await self.server.drain(timeout_s)

    async def wait_closed(self) -> None:
        """Return when drained."""
        await asyncio.shield(self.serving)


@asynccontextmanager
async def open_grpc(
    tables: Sequence[ServiceTable], address: GrpcDoor, limits: GrpcLimits | None = None
) -> AsyncIterator[GrpcListener]:
    """Listen and serve until the end of the block, which cancels what is in flight.

    A unix socket has mode 0600, as for ttRPC. Raises :class:`~lifecycle.SocketError` if the
    address cannot be had, :class:`ttrpc.ServiceTableError` if two tables have the same name.
    """
    server = GrpcServer(tables, limits)
    with await _listen(address) as sock:
        port = 0 if sock.family == socket.AF_UNIX else int(sock.getsockname()[1])
        serving = asyncio.create_task(server.serve(sock))
        try:
            yield GrpcListener(address, port, server, serving)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


@contextmanager
def _closing(listening: ListeningSocket) -> Iterator[socket.socket]:
    with listening:
        yield listening.sock


async def _listen(address: GrpcDoor) -> AbstractContextManager[socket.socket]:
    match address.target:
        case UnixAddress() as unix:
            return _closing(await listen_unix(unix))
        case LoopbackAddress() as loopback:
            return _listen_tcp(loopback)
        case unknown:
            assert_never(unknown)


def _listen_tcp(address: LoopbackAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise SocketError(str(address), reason) from error
    return sock
