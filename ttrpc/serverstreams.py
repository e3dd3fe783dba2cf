"""The open streams of one connection of a server: their frames in, their messages out, their ends.

What the connection has to offer, reading and writing and its bounds, is the port :class:`Line`.
A stream of a method ends in exactly one way: the handler's end, a status that the server gives it
because the peer broke a rule, or the end of the connection. After that, frames for it are frames of
an unknown stream.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, field
from typing import Final, Protocol

from ttrpc.dispatch import Dispatcher, StreamMethod
from ttrpc.errors import MessageTooLargeError
from ttrpc.frames import (
    NO_DATA,
    REMOTE_CLOSED,
    REMOTE_OPEN,
    STREAM_END,
    Frame,
    FrameType,
    encode_frame,
)
from ttrpc.inbox import Inbox
from ttrpc.messages import Request, encode_failure
from ttrpc.methods import PeerCredentials
from ttrpc.status import Code, StatusError

# A peer that reads as fast as we write never makes a sender wait; after so many messages the other
# tasks get their turn.
SENDS_PER_TURN: Final = 16


class Line(Protocol):
    """What a stream needs of its connection."""

    def write(self, frame: bytes) -> None:
        """Send a frame, unless the connection is closing."""

    async def writable(self) -> None:
        """Return once the peer has taken enough of what was sent before."""

    def taken(self, size: int) -> None:
        """Note that so many bytes of inboxes are free again."""

    def over(self) -> None:
        """Note that a stream has ended."""


@dataclass(slots=True, eq=False)
class _Stream:
    """One open stream; the outlet of its sender."""

    stream_id: int
    line: Line
    inbox: Inbox
    is_over: bool = False
    _sent: int = field(default=0)

    async def post(self, data: bytes) -> None:
        """See :class:`ttrpc.streams.Outlet`."""
        self._sent += 1
        if self._sent % SENDS_PER_TURN == 0:
            await asyncio.sleep(0)
        await self.line.writable()
        if self.is_over:
            raise StatusError(Code.CANCELLED, "the stream has ended")
        try:
            frame = encode_frame(self.stream_id, FrameType.DATA, data)
        except MessageTooLargeError as error:
            raise StatusError(Code.INVALID_ARGUMENT, str(error)) from error
        self.line.write(frame)

    def close(self, response: bytes | None) -> None:
        """Send the frame that ends the stream: a Response, or a Data frame if there is none."""
        if self.is_over:
            return
        self.is_over = True
        if response is None:
            self.line.write(encode_frame(self.stream_id, FrameType.DATA, b"", STREAM_END))
        else:
            self.line.write(encode_frame(self.stream_id, FrameType.RESPONSE, response))


class ServerStreams:
    """Every stream of one connection. The handlers run in the task group of the connection."""

    def __init__(self, dispatcher: Dispatcher, peer: PeerCredentials | None, line: Line) -> None:
        self._dispatcher = dispatcher
        self._peer = peer
        self._line = line
        self._open: dict[int, _Stream] = {}
        self._tasks: dict[_Stream, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        """How many handlers run, those of streams that were ended included."""
        return len(self._tasks)

    def __contains__(self, stream_id: int) -> bool:
        """Whether the stream is open."""
        return stream_id in self._open

    def open(
        self, group: asyncio.TaskGroup, frame: Frame, request: Request, method: StreamMethod
    ) -> int:
        """Start the handler and return how many bytes its inbox holds.

        The forms of opening: Go sends flag 0x02, Rust 0x06, both without a message, when more will
        follow; both send 0x01 and the only message when not. As in Rust, 0x04 alone decides that
        there is no message; a message beside 0x02 is the first one, as Go's client can send it.
        """
        inbox = Inbox(self._line.taken)
        stream = _Stream(frame.stream_id, self._line, inbox)
        held = 0
        more = frame.flags & REMOTE_OPEN
        if not frame.flags & NO_DATA and (request.payload or not more):
            held = inbox.put(request.payload)
        if not more:
            inbox.end()
        self._open[frame.stream_id] = stream
        task = group.create_task(self._run(stream, request, method))
        self._tasks[stream] = task
        # A callback, as a task that is cancelled before it began runs no "finally".
        task.add_done_callback(functools.partial(self._forget, stream))
        return held

    def data(self, frame: Frame) -> int:
        """Take a Data frame of an open stream and return how many bytes it adds to the inbox.

        Raises :class:`StatusError` for one that breaks a rule; the stream is then to be ended.
        """
        stream = self._open[frame.stream_id]
        closes = frame.flags & REMOTE_CLOSED
        if closes and frame.data:
            raise StatusError(Code.INVALID_ARGUMENT, close_with_body(frame.stream_id))
        held = 0
        if not frame.flags & NO_DATA:
            if stream.inbox.is_ended:
                text = f"Stream id {frame.stream_id}: handling data error: the sender had closed it"
                raise StatusError(Code.INVALID_ARGUMENT, text)
            held = stream.inbox.put(frame.data)
        if closes:
            stream.inbox.end()
        return held

    def end(self, stream_id: int, code: Code, text: str) -> None:
        """End an open stream with a status and cancel its handler."""
        stream = self._open.pop(stream_id)
        stream.close(encode_failure(code, text))
        # For a handler that goes on after it was cancelled.
        stream.inbox.abandon(StatusError(code, text))
        self._tasks[stream].cancel()

    def fullest(self) -> int | None:
        """Return the id of the stream with most bytes waiting, ``None`` if none has any."""
        stream = max(self._open.values(), key=lambda stream: stream.inbox.held, default=None)
        return stream.stream_id if stream is not None and stream.inbox.held else None

    def cancel(self) -> None:
        """Cancel every handler."""
        for task in self._tasks.values():
            task.cancel()

    async def _run(self, stream: _Stream, request: Request, method: StreamMethod) -> None:
        try:
            response = await self._dispatcher.stream(
                method, request, stream.inbox, stream, self._peer
            )
            await self._line.writable()
            stream.close(response)
        except asyncio.CancelledError:
            # The peer may still be there: see the same place for unary calls.
            stream.close(encode_failure(Code.CANCELLED, "the call was cancelled"))
            raise

    def _forget(self, stream: _Stream, _task: asyncio.Task[None]) -> None:
        del self._tasks[stream]
        if self._open.get(stream.stream_id) is stream:
            del self._open[stream.stream_id]
        stream.inbox.discard()
        self._line.over()


def close_with_body(stream_id: int) -> str:
    """Return ttrpc-rust's text for a Data frame that ends a stream and yet carries something."""
    problem = "data close message connot include data"  # codespell:ignore - theirs, exactly
    return f"Stream id {stream_id}: {problem}"
