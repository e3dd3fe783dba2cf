"""Calling a ttRPC server over a unix socket.

One :class:`Client` is one connection. It never connects anew: a lost connection is an error of
every call in flight and of every later one, and what to do about it is for the caller to decide.
"""

from __future__ import annotations

import asyncio
import os
import socket
from types import TracebackType
from typing import Final, Self, TypeVar

from google.protobuf.message import Message

from ttrpc.clientstreams import (
    ClientStreamCall,
    DuplexCall,
    Opening,
    ServerStreamCall,
    StreamScope,
)
from ttrpc.errors import ConnectionLostError, DeadlineError
from ttrpc.exchange import Exchange
from ttrpc.messages import Metadata, decode_response, encode_request, parse_message
from ttrpc.status import Code, StatusError

ResponseT = TypeVar("ResponseT", bound=Message)
BACKLOG_PAUSE_S: Final = 0.01  # before a server with a full backlog is tried again


class Client:
    """A connection with any number of concurrent calls and streams. Made by :meth:`connect`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @classmethod
    async def connect(cls, path: str, *, timeout_s: float | None = None) -> Self:
        """Connect to the server that listens on ``path``.

        While its backlog is full this waits. Raises :class:`ConnectionLostError` if nobody
        listens, :class:`DeadlineError` after ``timeout_s`` seconds. Cancellation leaves no
        connection.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                sock = await _dialled(path)
                _, exchange = await loop.create_unix_connection(lambda: Exchange(path), sock=sock)
        except TimeoutError as error:
            raise DeadlineError(path, timeout_s) from error
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise ConnectionLostError(path, reason) from error
        return cls(exchange)

    @property
    def is_connected(self) -> bool:
        """False once the connection is lost or closed; it does not come back."""
        return self._exchange.lost_reason is None

    async def call(
        self,
        service: str,
        method: str,
        request: Message,
        response_type: type[ResponseT],
        *,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
    ) -> ResponseT:
        """Call ``/service/method`` and return its reply.

        ``timeout_s`` (seconds, ``None`` for no limit) is enforced here and told to the server.
        Raises :class:`StatusError` for what the server answers, :class:`DeadlineError`,
        :class:`ConnectionLostError`, :class:`MessageTooLargeError` before anything is sent or when
        the reply is too long, and :class:`MessageDecodeError` for a reply that is not one.
        Cancellation forgets the call; its reply is dropped. The protocol cannot tell the server,
        which goes on until its own deadline or until this client is closed.
        """
        data = encode_request(service, method, request.SerializeToString(), timeout_s, metadata)
        path = f"/{service}/{method}"
        try:
            async with asyncio.timeout(timeout_s):
                payload = decode_response(await self._exchange.reply_to(data))
        except TimeoutError as error:
            raise DeadlineError(path, timeout_s) from error
        except StatusError as error:
            # The server's clock may run out just before ours: the same event, the same error.
            if error.code is Code.DEADLINE_EXCEEDED and timeout_s is not None:
                raise DeadlineError(path, timeout_s) from error
            raise
        return parse_message(response_type, payload)

    def server_stream(
        self,
        service: str,
        method: str,
        request: Message,
        response_type: type[ResponseT],
        *,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
    ) -> StreamScope[ServerStreamCall[ResponseT]]:
        """Send one message and iterate over many.

        ``async with client.server_stream(...) as messages: async for message in messages: ...``.
        ``timeout_s`` is for the whole stream. What entering and iterating raise is as for
        :meth:`call`; what leaving does is said at :class:`ttrpc.clientstreams.StreamScope`.
        """
        data = encode_request(service, method, request.SerializeToString(), timeout_s, metadata)
        opening = Opening(f"/{service}/{method}", data, False, True, timeout_s)
        return StreamScope(
            self._exchange,
            opening,
            lambda wire, stream: ServerStreamCall(wire, stream, response_type),
        )

    def client_stream(
        self,
        service: str,
        method: str,
        response_type: type[ResponseT],
        *,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
    ) -> StreamScope[ClientStreamCall[Message, ResponseT]]:
        """Send many messages and ask for one reply; for the rest see :meth:`server_stream`."""
        data = encode_request(service, method, b"", timeout_s, metadata)
        opening = Opening(f"/{service}/{method}", data, True, False, timeout_s)
        return StreamScope(
            self._exchange,
            opening,
            lambda wire, stream: ClientStreamCall(wire, stream, response_type),
        )

    def duplex(
        self,
        service: str,
        method: str,
        response_type: type[ResponseT],
        *,
        timeout_s: float | None = None,
        metadata: Metadata | None = None,
    ) -> StreamScope[DuplexCall[Message, ResponseT]]:
        """Send many messages and iterate over many; for the rest see :meth:`server_stream`."""
        data = encode_request(service, method, b"", timeout_s, metadata)
        opening = Opening(f"/{service}/{method}", data, True, True, timeout_s)
        return StreamScope(
            self._exchange, opening, lambda wire, stream: DuplexCall(wire, stream, response_type)
        )

    async def aclose(self) -> None:
        """Close the connection. Calls and streams fail with :class:`ConnectionLostError`."""
        await self._exchange.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


async def _dialled(path: str) -> socket.socket:
    """Return a connected socket.

    EAGAIN says that the backlog is full and that nothing is under way (unix(7)), but event loops
    take it for EINPROGRESS and give out a socket that is not connected.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                await asyncio.sleep(BACKLOG_PAUSE_S)
            else:
                return sock
    except BaseException:  # cleaned up and passed on, cancellation included
        sock.close()
        raise
