"""Accepting connections, bounding their number, and an orderly end.

What happens on a connection is in :mod:`ttrpc.connection`, what a request means in
:mod:`ttrpc.dispatch`. The listening socket belongs to the caller, who also closes it.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
from collections.abc import Sequence

from secrecy.journal import get_logger
from ttrpc.accepting import OVERLOAD_PAUSE_S, OVERLOADED, PEER_LEFT, credentials_of
from ttrpc.admission import Admission
from ttrpc.budget import CommonBudget, CommonBudgets
from ttrpc.connection import Connection
from ttrpc.dispatch import Dispatcher
from ttrpc.limits import Limits
from ttrpc.methods import PeerCredentials, ServiceTable

log = get_logger("ttrpc")


class Server:
    """Serves one set of tables on any number of listening sockets."""

    def __init__(self, services: Sequence[ServiceTable], limits: Limits | None = None) -> None:
        """Raises :class:`ttrpc.ServiceTableError` if two tables have the same name."""
        self._dispatcher = Dispatcher(services)
        self._limits = limits if limits is not None else Limits()
        self._admission: Admission[Connection] = Admission(self._limits)
        self._budgets = CommonBudgets(
            CommonBudget(self._limits.request_bytes), CommonBudget(self._limits.reply_bytes)
        )
        self._connections: set[Connection] = set()
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

        Cancellation cancels all handlers, waits for them and closes the connections. ``sock`` is
        made non-blocking and stays open. Raises ``OSError`` if accepting fails for good.
        """
        sock.setblocking(False)
        self._serving += 1
        self._idle.clear()
        try:
            async with asyncio.TaskGroup() as group:
                accepting = group.create_task(self._accept(sock, group))
                await self._stopping.wait()
                accepting.cancel()
        finally:
            self._serving -= 1
            if self._serving == 0:
                self._idle.set()

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, let calls in flight finish, then close; every ``serve`` returns.

        New calls on open connections get UNAVAILABLE. What still runs after ``timeout_s`` seconds
        is cancelled, and only then waited for without limit, as its cleanup must not be left
        behind. Cancelling ``drain`` leaves the server draining.
        """
        self._stopping.set()
        for connection in self._connections:
            connection.drain()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            if self._connections:
                log.warning("calls cut off", connections=len(self._connections), seconds=timeout_s)
            for connection in self._connections:
                connection.end()
            await self._idle.wait()

    async def _accept(self, sock: socket.socket, group: asyncio.TaskGroup) -> None:
        while True:
            connection = await self._next_connection(sock)
            if connection is None:
                await asyncio.sleep(0)  # those turned away may come without end
            else:
                self._connections.add(connection)
                self._admission.enter(connection)
                task = group.create_task(self._run(connection))
                # A callback, as a task that is cancelled before it began runs no "finally".
                task.add_done_callback(functools.partial(self._forget, connection))

    async def _next_connection(self, sock: socket.socket) -> Connection | None:
        """Return the next connection; ``None`` after an error that says nothing about the next."""
        loop = asyncio.get_running_loop()
        try:
            try:
                accepted, _ = sock.accept()  # a crowd is taken in without waiting for each
                accepted.setblocking(False)
            except BlockingIOError:
                accepted, _ = await loop.sock_accept(sock)
        except OSError as error:
            if error.errno in PEER_LEFT:
                return None
            if error.errno not in OVERLOADED:
                raise
            log.warning("accepting failed", reason=errno.errorcode.get(error.errno or 0, "unknown"))
            self._displace(self._admission.expendable())
            await asyncio.sleep(OVERLOAD_PAUSE_S)
            return None
        try:
            peer = credentials_of(accepted)
            if not self._admit(peer):
                accepted.close()
                return None
            connection = Connection(self._dispatcher, self._limits, peer, self._budgets, self._held)
            await loop.connect_accepted_socket(lambda: connection, accepted)
        except Exception as error:  # noqa: BLE001 - one newcomer's failure is not the others'
            accepted.close()
            log.error("connection not taken", error=type(error).__name__)  # noqa: TRY400
            await asyncio.sleep(OVERLOAD_PAUSE_S)
            return None
        except BaseException:  # cleaned up and passed on, cancellation included
            accepted.close()
            raise
        return connection

    def _admit(self, peer: PeerCredentials | None) -> bool:
        process = peer.pid or None if peer is not None else None
        may_stay, displaced = self._admission.admits(process)
        self._displace(displaced)
        if not may_stay:
            log.info("connection turned away", process=process, connections=len(self._admission))
        return may_stay

    def _held(self, connection: Connection, size: int) -> None:
        """Keep within bounds what the incomplete frames of all connections hold."""
        self._displace(self._admission.holds(connection, size))

    def _displace(self, connection: Connection | None) -> None:
        if connection is not None:
            log.info("connection displaced", process=connection.process)
            self._admission.leave(connection)
            connection.abort()

    async def _run(self, connection: Connection) -> None:
        """Serve one connection; whatever fails there ends that one and no other."""
        if self._stopping.is_set():
            connection.drain()
        try:
            await connection.run()
        except Exception as error:  # noqa: BLE001 - kata-agent's is among the others
            log.error("connection failed", error=type(error).__name__)  # noqa: TRY400

    def _forget(self, connection: Connection, _task: asyncio.Task[None]) -> None:
        connection.abort()
        self._connections.discard(connection)
        self._admission.leave(connection)
