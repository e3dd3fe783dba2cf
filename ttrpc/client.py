"""Calling a ttRPC server over a unix socket.

One :class:`Client` is one connection. It never connects anew: a lost connection is an error of
every call in flight and of every later one, and what to do about it is for the caller to decide.
"""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Self, TypeVar, cast

from google.protobuf.message import Message

from ttrpc.errors import ConnectionLostError, DeadlineError, MessageTooLargeError
from ttrpc.frames import (
    MAX_DATA_BYTES,
    MAX_STREAM_ID,
    FrameDecoder,
    FrameType,
    OversizedFrame,
    encode_frame,
)
from ttrpc.messages import Metadata, decode_response, encode_request, parse_message
from ttrpc.status import Code, StatusError

ResponseT = TypeVar("ResponseT", bound=Message)


class Client:
    """A connection with any number of concurrent calls. Made by :meth:`connect`."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    @classmethod
    async def connect(cls, path: str, *, timeout_s: float | None = None) -> Self:
        """Connect to the server that listens on ``path``.

        Raises :class:`ConnectionLostError` if nobody does, :class:`DeadlineError` after
        ``timeout_s`` seconds. Cancellation leaves no connection.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, exchange = await loop.create_unix_connection(lambda: _Exchange(path), path)
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

    async def aclose(self) -> None:
        """Close the connection. Calls in flight fail with :class:`ConnectionLostError`."""
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


class _Exchange(asyncio.Protocol):
    """Request data out, the reply of the same stream id back."""

    def __init__(self, address: str) -> None:
        loop = asyncio.get_running_loop()
        self.lost_reason: str | None = None
        self._address = address
        self._loop = loop
        self._decoder = FrameDecoder()
        self._next_id = 1
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = loop.create_future()
        self._may_write = asyncio.Event()
        self._may_write.set()

    async def reply_to(self, data: bytes) -> bytes:
        """Send one request and return the data of its Response frame."""
        while not self._may_write.is_set():
            await self._may_write.wait()
        if self._transport is None or self.lost_reason is not None:
            raise ConnectionLostError(self._address, self.lost_reason or "not connected")
        stream_id = self._take_id()
        frame = encode_frame(stream_id, FrameType.REQUEST, data)
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._pending[stream_id] = future
        try:
            self._transport.write(frame)
            return await future
        finally:
            self._pending.pop(stream_id, None)
            if future.done() and not future.cancelled():
                # A caller cancelled in the same moment does not look at it; that is no fault.
                future.exception()

    async def close(self) -> None:
        self._lose("closed by this side")
        if self._transport is not None:
            self._transport.abort()
            # Shielded, as several may wait and one cancelled waiter must not take it from all.
            await asyncio.shield(self._gone)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._decoder.feed(data)
        while (frame := self._decoder.next_frame()) is not None:
            # Nobody waits for the reply to a call that was given up: it is dropped.
            future = self._pending.get(frame.stream_id)
            if future is None or future.done():
                continue
            if isinstance(frame, OversizedFrame):
                future.set_exception(MessageTooLargeError(frame.length, MAX_DATA_BYTES))
            elif frame.type == FrameType.RESPONSE:
                future.set_result(frame.data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose("ended by the server" if exc is None else type(exc).__name__)
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def _take_id(self) -> int:
        """Return the next odd id. After the last one numbering starts over, past those in use."""
        while self._next_id in self._pending:
            self._advance_id()
        stream_id = self._next_id
        self._advance_id()
        return stream_id

    def _advance_id(self) -> None:
        self._next_id = self._next_id + 2 if self._next_id < MAX_STREAM_ID else 1

    def _lose(self, reason: str) -> None:
        if self.lost_reason is not None:
            return
        self.lost_reason = reason
        self._may_write.set()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(ConnectionLostError(self._address, reason))
