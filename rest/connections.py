"""Connections of a listener: how many, how long they may be silent, who is at the other end.

Wraps the protocol of the HTTP library, which bounds neither the time until a request's first
lines are complete nor the number of connections. When there are too many, the one that has been
without a request for longest is closed: a client that connects and asks at once is served,
however many others connect and wait.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias, cast

from rest.errors import CallerUnknownError
from rest.peer import Caller, PeerProcess, Unidentified
from rest.sections import LimitsConfig

Inner: TypeAlias = asyncio.Protocol
ABOUT_TO_END: Final = Unidentified("its connection is about to end")


class Connection(asyncio.Protocol):
    """One connection. Idle while no request of it is being answered; only then may it be closed."""

    def __init__(self, inner: Inner, listener: Connections) -> None:
        self.inner = inner
        self.caller: Caller | None = None  # who was found to be at the other end
        self.peer: PeerProcess | Unidentified = ABOUT_TO_END
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)  # as a stream socket's always is
        self._transport = stream
        if self._listener.identifies:
            self.peer = _peer_of(stream)
        self._listener.opened(self)
        self._arm(self._listener.limits.head_seconds)
        self.inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._in_head and not self._is_busy:
            self._in_head = True
            self._arm(self._listener.limits.head_seconds)
        self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._listener.closed(self)
        if isinstance(self.peer, PeerProcess):
            self.peer.close()
            self.peer = ABOUT_TO_END
        self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()

    def abort(self) -> None:
        """Close at once; what has not been sent is lost."""
        if self._transport is not None:
            self._transport.abort()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Not idle meanwhile. Afterwards the next request may take its time to come."""
        self._is_busy = True
        self._disarm()
        self._listener.busy(self)
        try:
            yield
        finally:
            self._is_busy = self._in_head = False
            if self._transport is not None and not self._transport.is_closing():
                self._listener.idle(self)
                self._arm(self._listener.limits.keep_alive_seconds)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _peer_of(transport: asyncio.Transport) -> PeerProcess | Unidentified:
    try:
        return PeerProcess.of(transport.get_extra_info("socket"))
    except CallerUnknownError as error:
        return Unidentified(error.problem)


class Connections:
    """All connections of one listener; a factory of protocols for it."""

    def __init__(
        self, make: Callable[[], Inner], limits: LimitsConfig, room: int, *, identifies: bool
    ) -> None:
        """``room`` is for how many connections there are descriptors.

        ``identifies``: the listener is a unix socket, so processes can be told apart.
        """
        self.limits = limits
        self._room = min(room, limits.connections)
        self.identifies = identifies
        self._make = make
        self._open: dict[Inner, Connection] = {}
        self._idle: OrderedDict[Connection, None] = OrderedDict()

    def __call__(self) -> Connection:
        return Connection(self._make(), self)

    def __len__(self) -> int:
        return len(self._open)

    def of(self, inner: object) -> Connection | None:
        """Return the connection around a protocol of the HTTP library, None once it is lost."""
        return self._open.get(inner) if isinstance(inner, asyncio.Protocol) else None

    def opened(self, connection: Connection) -> None:
        """Note a new one, idle as yet. Beyond the limit, one is closed: the longest idle."""
        self._open[connection.inner] = connection
        self.idle(connection)
        if len(self._open) > self._room:
            oldest, _ = self._idle.popitem(last=False)
            # It no longer counts, though the loop only tells it later.
            self._open.pop(oldest.inner, None)
            oldest.abort()

    def closed(self, connection: Connection) -> None:
        self._open.pop(connection.inner, None)
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        self._idle[connection] = None
        self._idle.move_to_end(connection)

    def busy(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def abort_all(self) -> None:
        for connection in list(self._open.values()):
            connection.abort()
