"""One connection of a server: frames in, handler tasks, frames out, and the bounds on all three.

A plain protocol rather than asyncio streams: not for speed, which measured the same, but because
the bounds need to say when the transport is read, and streams read ahead on their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from secrecy.journal import get_logger
from ttrpc.budget import Budget, CommonBudgets
from ttrpc.dispatch import Dispatcher, StreamMethod
from ttrpc.errors import MessageDecodeError, MessageTooLargeError
from ttrpc.frames import (
    MAX_DATA_BYTES,
    REMOTE_CLOSED,
    Frame,
    FrameDecoder,
    FrameType,
    OversizedFrame,
    encode_frame,
)
from ttrpc.limits import Limits
from ttrpc.messages import Request, decode_request, encode_failure
from ttrpc.methods import PeerCredentials
from ttrpc.partial import PartialFrame
from ttrpc.serverstreams import ServerStreams, close_with_body
from ttrpc.status import Code, StatusError

log = get_logger("ttrpc")

# A piece can hold thousands of tiny frames; after so many the other connections get their turn.
FRAMES_PER_TURN: Final = 64
WRITE_BUFFER_BYTES: Final = 1024 * 1024  # replies buffered here before handlers have to wait
REPLIES_NOT_TAKEN: Final = "too much that was not taken waits before this reply"


class Connection(asyncio.Protocol):
    """Lives from accept to close. :meth:`run` owns the handlers and the transport.

    Requests are taken in any order of stream ids and run concurrently. When the peer hangs up,
    which for a ttRPC peer includes closing only its sending half, its handlers are cancelled.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        limits: Limits,
        peer: PeerCredentials | None,
        common: CommonBudgets,
        holds: Callable[[Connection, int], None],
    ) -> None:
        """``holds`` is told how many bytes of an incomplete frame wait here, when that changes."""
        loop = asyncio.get_running_loop()
        self._dispatcher = dispatcher
        self._limits = limits
        self._peer = peer
        self._loop = loop
        self._decoder = FrameDecoder()
        self._calls: set[asyncio.Task[None]] = set()
        self._streams = ServerStreams(dispatcher, peer, self)
        self._budget = Budget(limits.request_bytes_per_connection, common.requests)
        self._replies = Budget(limits.reply_bytes_per_connection, common.replies)
        self._group: asyncio.TaskGroup | None = None
        self._transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] = loop.create_future()
        self._lost: asyncio.Future[None] = loop.create_future()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._stalled: asyncio.TimerHandle | None = None  # runs while the peer takes nothing
        self._crowded: asyncio.TimerHandle | None = None  # runs while streams leave no room
        self._backlog = False  # frames may be waiting in the decoder
        self._next_turn: asyncio.Handle | None = None
        self._reading = True
        self._draining = False
        self._holds = holds
        self._held = 0  # as told last
        self._frames = 0
        self._partial = PartialFrame(
            limits.partial_frame_s, lambda: self._reading, self._give_up_partial
        )
        self.has_completed = False
        self.active_at = loop.time()

    # What ttrpc.admission asks.

    @property
    def process(self) -> int | None:
        """Process id of the peer; none that this process can see is ``None``."""
        return self._peer.pid or None if self._peer is not None else None

    @property
    def is_busy(self) -> bool:
        """Whether calls or streams are in flight."""
        return bool(self._calls) or bool(self._streams)

    @property
    def partial_since(self) -> float | None:
        """When the frame of which only a part has arrived began."""
        return self._partial.since

    async def run(self) -> None:
        """Serve until the peer hangs up, :meth:`end` is called or a drain has finished.

        Cancellation cancels the handlers and waits for them, then drops the transport with
        whatever it has not sent.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._take_turn()
                try:
                    await self._ended
                finally:
                    # Also when cancelled: a handler that ends late must not start the next.
                    self.end()
                for call in self._calls:
                    call.cancel()
                self._streams.cancel()
            await self._flush_and_close()
        finally:
            self._budget.close()
            self.abort()

    def end(self) -> None:
        """Make :meth:`run` cancel what is in flight and return. Idempotent."""
        if not self._ended.done():
            self._ended.set_result(None)

    def drain(self) -> None:
        """Refuse new calls with UNAVAILABLE and end when those in flight have been answered."""
        self._draining = True
        self._end_if_drained()

    def abort(self) -> None:
        """Close at once, without sending what is buffered. Idempotent."""
        self.end()
        for timer in (self._stalled, self._crowded):
            if timer is not None:
                timer.cancel()
        self._partial.cancel()
        # Now, because a connection is in cycles and the collector may take long to come by.
        self._decoder = FrameDecoder()
        # Once lost, a transport of asyncio's own loop can no longer be aborted.
        if self._transport is not None and not self._lost.done():
            self._transport.abort()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        self._decoder.feed(data)
        if not self._backlog:  # otherwise the piece waits behind what came before it
            self._take_turn()

    def eof_received(self) -> bool:
        self.end()
        return True  # run() closes, after the handlers are gone

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            log.debug("connection broken", error=type(exc).__name__)
        self.end()
        self._may_write.set()
        if not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        self._may_write.clear()
        self._stalled = self._loop.call_later(self._limits.stalled_write_s, self._give_up)

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        self._may_write.set()
        self._go_on()

    # Frames in.

    def _is_full(self) -> bool:
        """Whether the peer has to wait before another frame of its is looked at."""
        return (
            self._group is None
            or not self._may_write.is_set()
            or len(self._calls) >= self._limits.calls_per_connection
            or self._budget.is_spent
        )

    def _take_turn(self) -> None:
        """Handle waiting frames until there are none, a bound is reached or the turn is over."""
        for _ in range(FRAMES_PER_TURN):
            if self._ended.done():
                return
            if self._is_full():
                self._set_backlog(True)
                self._watch_crowd()
                return
            if self._crowded is not None:
                self._crowded.cancel()
                self._crowded = None
            frame = self._decoder.next_frame()
            if frame is None:
                self._set_backlog(False)
                self._note_partial()
                self._end_if_drained()
                return
            self._frames += 1
            self._take(frame)
        self._set_backlog(True)
        self._next_turn = self._loop.call_soon(self._scheduled_turn)

    def _note_partial(self) -> None:
        """Everything that is complete has been taken; look at what is left."""
        inside = self._decoder.is_inside_frame
        if inside or self._partial.since is not None:
            self._partial.note(self._frames, inside=inside)
            held = self._decoder.held
            if held != self._held:
                self._held = held
                self._holds(self, held)

    def _scheduled_turn(self) -> None:
        self._next_turn = None
        self._take_turn()

    def _go_on(self) -> None:
        """Look at waiting frames again after room was made, unless a turn is coming anyway."""
        if self._backlog and self._next_turn is None:
            self._take_turn()

    def _set_backlog(self, backlog: bool) -> None:
        """Read from the peer only while nothing it sent before is waiting."""
        self._backlog = backlog
        read = not backlog
        if read == self._reading or self._transport is None or self._transport.is_closing():
            return
        self._reading = read
        if read:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _watch_crowd(self) -> None:
        """Give slow streams a limited time when it is their messages that leave no room."""
        if self._budget.is_spent and self._crowded is None and self._streams.fullest() is not None:
            self._crowded = self._loop.call_later(self._limits.crowded_s, self._make_room)

    def _make_room(self) -> None:
        self._crowded = None
        stream_id = self._streams.fullest()
        if stream_id is not None and not self._ended.done():
            log.warning("stream ended, its messages were not taken", stream=stream_id)
            text = f"Stream id {stream_id}: too much data that was not taken"
            self._refuse(stream_id, Code.RESOURCE_EXHAUSTED, text)

    def _take(self, frame: Frame | OversizedFrame) -> None:
        if isinstance(frame, OversizedFrame):
            text = str(MessageTooLargeError(frame.length, MAX_DATA_BYTES))
            self._refuse(frame.stream_id, Code.INVALID_ARGUMENT, text)
        elif frame.stream_id % 2 == 0:
            self._refuse(frame.stream_id, Code.INVALID_ARGUMENT, "stream id must be odd")
        elif frame.type == FrameType.REQUEST and frame.stream_id in self._streams:
            text = "StreamID is that of an open stream"
            self._refuse(frame.stream_id, Code.INVALID_ARGUMENT, text)
        elif frame.type == FrameType.REQUEST:
            self._take_request(frame)
        elif frame.type == FrameType.DATA:
            self._take_data(frame)
        else:
            log.debug("frame ignored", type=frame.type)

    def _take_request(self, frame: Frame) -> None:
        try:
            request = decode_request(frame.data)
        except MessageDecodeError as error:
            self._refuse(frame.stream_id, Code.INVALID_ARGUMENT, str(error))
            return
        if self._draining or self._group is None:
            self._refuse(frame.stream_id, Code.UNAVAILABLE, "the server is stopping")
            return
        method = self._dispatcher.streaming(request)
        if method is not None:
            self._open_stream(self._group, frame, request, method)
            return
        size = len(frame.data)
        self._budget.take(size)
        self._calls.add(self._group.create_task(self._call(frame.stream_id, request, size)))

    def _open_stream(
        self, group: asyncio.TaskGroup, frame: Frame, request: Request, method: StreamMethod
    ) -> None:
        if len(self._streams) >= self._limits.streams_per_connection:
            # Not by reading no further, as that would keep their own data from the open ones.
            self._refuse(frame.stream_id, Code.RESOURCE_EXHAUSTED, "too many open streams")
            return
        self._budget.take(self._streams.open(group, frame, request, method))

    def _take_data(self, frame: Frame) -> None:
        if frame.stream_id not in self._streams:
            closing = frame.flags & REMOTE_CLOSED and frame.data
            text = close_with_body(frame.stream_id) if closing else "Stream is no longer active"
            self._refuse(frame.stream_id, Code.INVALID_ARGUMENT, text)
            return
        try:
            self._budget.take(self._streams.data(frame))
        except StatusError as error:
            self._refuse(frame.stream_id, error.code, error.message)

    # Calls and frames out.

    async def _call(self, stream_id: int, request: Request, size: int) -> None:
        try:
            reply = await self._dispatcher.answer(request, self._peer)
            if not self._may_write.is_set():
                if self._replies.is_spent:
                    log.info("reply dropped, those before it are not taken", stream=stream_id)
                    reply = encode_failure(Code.RESOURCE_EXHAUSTED, REPLIES_NOT_TAKEN)
                with self._replies.holding(len(reply)):
                    await self.writable()
            self._send(stream_id, reply)
            self._note_completed()
        except asyncio.CancelledError:
            # The peer may still be there: a handler let through the cancellation of something it
            # waited for, or the whole server is being cancelled.
            self._refuse(stream_id, Code.CANCELLED, "the call was cancelled")
            raise
        finally:
            self._calls.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            self._budget.free(size)
            self._go_on()
            self._end_if_drained()

    def _refuse(self, stream_id: int, code: Code, text: str) -> None:
        """Answer a frame with a failure. For a peer that ends the stream, so it does for us."""
        if stream_id in self._streams:
            self._streams.end(stream_id, code, text)
        else:
            self._send(stream_id, encode_failure(code, text))

    def _send(self, stream_id: int, data: bytes) -> None:
        self.write(encode_frame(stream_id, FrameType.RESPONSE, data))

    # What streams need; see ttrpc.serverstreams.Line.

    def write(self, frame: bytes) -> None:
        """Send a frame, unless the connection is closing."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    async def writable(self) -> None:
        """Return once the peer has taken enough of what was sent before."""
        while not self._may_write.is_set():
            await self._may_write.wait()

    def taken(self, size: int) -> None:
        """Make room for what waits of the peer."""
        self._budget.free(size)
        self._go_on()

    def over(self) -> None:
        """Note the end of a stream, and look whether it was the last."""
        self._note_completed()
        self._end_if_drained()

    # Ends.

    def _end_if_drained(self) -> None:
        if self._draining and not self._calls and not self._streams and not self._backlog:
            self.end()

    def _note_completed(self) -> None:
        self.has_completed = True
        self.active_at = self._loop.time()

    def _give_up_partial(self) -> None:
        log.info("frame not completed", seconds=self._limits.partial_frame_s)
        self.abort()

    def _give_up(self) -> None:
        log.warning("peer takes no replies", seconds=self._limits.stalled_write_s)
        self.abort()

    async def _flush_and_close(self) -> None:
        if self._transport is None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(self._limits.flush_s):
                await self._lost
        except TimeoutError:
            log.info("replies not taken", seconds=self._limits.flush_s)
