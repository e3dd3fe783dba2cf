"""One connection of a client: frames out, and the frames that come back to whom they are for."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from ttrpc.clientstreams import Opening, Stream
from ttrpc.errors import (
    ConnectionLostError,
    DeadlineError,
    MessageTooLargeError,
    StreamBacklogError,
)
from ttrpc.frames import (
    MAX_DATA_BYTES,
    MAX_STREAM_ID,
    STREAM_END,
    FrameDecoder,
    FrameType,
    OversizedFrame,
    encode_frame,
)
from ttrpc.inbox import Inbox

# Messages of all streams of a connection that nobody has taken; beyond it the server has to wait.
BACKLOG_BYTES: Final = 16 * 1024 * 1024
# After so long without room, the stream that holds most is given up, so that it does not hold up
# the others for ever, seconds.
BACKLOG_S: Final = 10.0
# A server that reads as fast as we write never makes us wait; after so many messages the other
# tasks get their turn.
SENDS_PER_TURN: Final = 16


class Exchange(asyncio.Protocol):
    """Calls and streams by their ids. What they mean to their callers is not known here."""

    def __init__(self, address: str) -> None:
        loop = asyncio.get_running_loop()
        self.lost_reason: str | None = None
        self._address = address
        self._loop = loop
        self._decoder = FrameDecoder()
        self._next_id = 1
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._streams: dict[int, Stream] = {}
        self._backlog = 0  # bytes of the streams that nobody has taken
        self._crowded: asyncio.TimerHandle | None = None  # runs while reading is paused
        self._sent = 0
        self._transport: asyncio.Transport | None = None
        self._gone: asyncio.Future[None] = loop.create_future()
        self._may_write = asyncio.Event()
        self._may_write.set()

    async def reply_to(self, data: bytes) -> bytes:
        """Send one request and return the data of its Response frame."""
        transport = self._transport
        if transport is None or self.lost_reason is not None or not self._may_write.is_set():
            transport = await self._writable()
        stream_id = self._take_id()
        frame = encode_frame(stream_id, FrameType.REQUEST, data)
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._pending[stream_id] = future
        try:
            transport.write(frame)
            return await future
        finally:
            self._pending.pop(stream_id, None)
            if future.done() and not future.cancelled():
                # A caller cancelled in the same moment does not look at it; that is no fault.
                future.exception()

    async def open(self, opening: Opening) -> Stream:
        """See :class:`ttrpc.clientstreams.Wire`."""
        limit = opening.timeout_s
        deadline = None if limit is None else self._loop.time() + limit
        transport = await self._writable_by(deadline, opening)
        stream_id = self._take_id()
        frame = encode_frame(stream_id, FrameType.REQUEST, opening.data, opening.flags)
        stream = Stream(stream_id, opening, deadline, Inbox(self._taken))
        self._streams[stream_id] = stream
        transport.write(frame)
        return stream

    async def send(self, stream: Stream, data: bytes) -> None:
        """See :class:`ttrpc.clientstreams.Wire`."""
        frame = encode_frame(stream.stream_id, FrameType.DATA, data)
        self._sent += 1
        if self._sent % SENDS_PER_TURN == 0:
            await asyncio.sleep(0)
        transport = await self._writable_by(stream.deadline, stream.opening)
        stream.check_sending()
        transport.write(frame)

    async def end(self, stream: Stream) -> None:
        """See :class:`ttrpc.clientstreams.Wire`."""
        if not stream.may_send():
            return
        transport = await self._writable_by(stream.deadline, stream.opening)
        if stream.may_send():  # still
            stream.sending = False
            transport.write(encode_frame(stream.stream_id, FrameType.DATA, b"", STREAM_END))

    def forget(self, stream: Stream) -> None:
        """See :class:`ttrpc.clientstreams.Wire`."""
        self._streams.pop(stream.stream_id, None)
        stream.finish()
        stream.inbox.discard()

    async def close(self) -> None:
        self._lose("closed by this side")
        # Once lost, a transport of asyncio's own loop can no longer be aborted.
        if self._transport is not None and not self._gone.done():
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
                stream = self._streams.get(frame.stream_id)
                if stream is not None:
                    held = stream.receive(frame)
                    self._backlog += held
                continue
            if isinstance(frame, OversizedFrame):
                future.set_exception(MessageTooLargeError(frame.length, MAX_DATA_BYTES))
            elif frame.type == FrameType.RESPONSE:
                future.set_result(frame.data)
        if self._backlog > BACKLOG_BYTES:
            self._pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose("ended by the server" if exc is None else type(exc).__name__)
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    async def _writable(self) -> asyncio.Transport:
        """Return the transport once the server has taken enough of what was sent before."""
        while not self._may_write.is_set():
            await self._may_write.wait()
        if self._transport is None or self.lost_reason is not None:
            raise ConnectionLostError(self._address, self.lost_reason or "not connected")
        return self._transport

    async def _writable_by(self, deadline: float | None, opening: Opening) -> asyncio.Transport:
        if self._may_write.is_set():
            return await self._writable()
        try:
            async with asyncio.timeout_at(deadline):
                return await self._writable()
        except TimeoutError as error:
            raise DeadlineError(opening.path, opening.timeout_s) from error

    def _pause_reading(self) -> None:
        if self._crowded is None and self._transport is not None and self.lost_reason is None:
            self._transport.pause_reading()
            self._crowded = self._loop.call_later(BACKLOG_S, self._make_room)

    def _taken(self, size: int) -> None:
        self._backlog -= size
        if self._crowded is not None and self._backlog <= BACKLOG_BYTES:
            self._crowded.cancel()
            self._crowded = None
            if self._transport is not None and self.lost_reason is None:
                self._transport.resume_reading()

    def _make_room(self) -> None:
        """Give up the streams whose messages take most of the room, until there is some."""
        if len(self._streams) + len(self._pending) == 1:
            # A program that takes its time with the only stream there is holds up nobody.
            self._crowded = self._loop.call_later(BACKLOG_S, self._make_room)
            return
        while self._backlog > BACKLOG_BYTES:
            stream = max(self._streams.values(), key=lambda stream: stream.inbox.held)
            stream.give_up(StreamBacklogError(stream.opening.path, stream.inbox.held))

    def _take_id(self) -> int:
        """Return the next odd id. After the last one numbering starts over, past those in use."""
        while self._next_id in self._pending or self._next_id in self._streams:
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
        if self._crowded is not None:
            self._crowded.cancel()
        for stream in self._streams.values():
            stream.finish(ConnectionLostError(self._address, reason))
        for future in self._pending.values():
            if not future.done():
                future.set_exception(ConnectionLostError(self._address, reason))
