"""Streaming calls of a client: what the caller holds, and the frames of one stream.

The connection belongs to :mod:`ttrpc.exchange`. The protocol has no message that cancels a stream,
so a stream that is left early is only forgotten here; see :class:`StreamScope`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from google.protobuf.message import Message

from ttrpc.errors import (
    DeadlineError,
    MessageTooLargeError,
    StreamClosedError,
    TtrpcError,
    UnexpectedFrameError,
)
from ttrpc.frames import (
    MAX_DATA_BYTES,
    NO_DATA,
    REMOTE_CLOSED,
    REMOTE_OPEN,
    Frame,
    FrameType,
    OversizedFrame,
)
from ttrpc.inbox import Inbox
from ttrpc.messages import decode_response, parse_message
from ttrpc.status import Code, StatusError

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)
CallT = TypeVar("CallT")


@dataclass(frozen=True, slots=True)
class Opening:
    """What a stream begins with."""

    path: str  # /package.Service/Method, for errors
    data: bytes  # of the Request frame
    client_streams: bool
    server_streams: bool
    timeout_s: float | None

    @property
    def flags(self) -> int:
        """The form of opening that servers of both references understand."""
        return REMOTE_OPEN | NO_DATA if self.client_streams else REMOTE_CLOSED


class Wire(Protocol):
    """What a stream needs of its connection."""

    async def open(self, opening: Opening) -> Stream:
        """Send the Request frame and let the frames of its id come to the new stream."""

    async def send(self, stream: Stream, data: bytes) -> None:
        """Send one message as soon as the server takes what was sent before."""

    async def end(self, stream: Stream) -> None:
        """Tell the server that nothing more is sent. Does nothing on a stream that is over."""

    def forget(self, stream: Stream) -> None:
        """Drop the frames that still come for this stream."""


class Stream:
    """The frames of one stream, without the types of its messages."""

    def __init__(
        self, stream_id: int, opening: Opening, deadline: float | None, inbox: Inbox
    ) -> None:
        """``deadline``: of the whole stream, on the loop's clock."""
        self.stream_id = stream_id
        self.opening = opening
        self.inbox = inbox
        self.sending = opening.client_streams
        self.deadline = deadline
        self._timer: asyncio.TimerHandle | None = None
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def may_send(self) -> bool:
        """Whether neither side has ended what this side sends."""
        return self.sending and not self.inbox.is_ended

    def check_sending(self) -> None:
        """Raise what the stream has ended with, or that it has ended."""
        if self.inbox.failure is not None:
            raise self.inbox.failure
        if self.inbox.is_ended:
            raise StreamClosedError(self.opening.path, "the server")
        if not self.sending:
            raise StreamClosedError(self.opening.path, "this side")

    def receive(self, frame: Frame | OversizedFrame) -> int:
        """Take a frame of the server and return how many bytes it adds to the inbox."""
        if self.inbox.is_ended:
            return 0
        if isinstance(frame, OversizedFrame):
            self.finish(MessageTooLargeError(frame.length, MAX_DATA_BYTES))
        elif frame.type == FrameType.RESPONSE:
            return self._receive_response(frame.data)
        elif frame.type == FrameType.DATA and self.opening.server_streams:
            return self._receive_data(frame)
        else:
            got = f"a frame of type {frame.type}"
            wanted = "messages" if self.opening.server_streams else "one response"
            self.finish(UnexpectedFrameError(self.opening.path, got, wanted))
        return 0

    def finish(self, failure: Exception | None = None) -> None:
        """Note the end of the stream; the caller meets it after the messages that are there."""
        if self._timer is not None:
            self._timer.cancel()
        self.inbox.end(failure)

    def give_up(self, failure: Exception) -> None:
        """End the stream and drop the messages that are there, also if the server has ended it."""
        self.finish()
        self.inbox.abandon(failure)

    def _receive_response(self, data: bytes) -> int:
        """A response ends every kind of stream; one without failure carries the last message."""
        try:
            payload = decode_response(data)
        except StatusError as error:
            limit = self.opening.timeout_s
            # The server's clock may run out just before ours: the same event, the same error.
            if error.code is Code.DEADLINE_EXCEEDED and limit is not None:
                self.finish(DeadlineError(self.opening.path, limit))
            else:
                self.finish(error)
            return 0
        except TtrpcError as error:
            self.finish(error)
            return 0
        held = self.inbox.put(payload)
        self.finish()
        return held

    def _receive_data(self, frame: Frame) -> int:
        held = 0
        if not frame.flags & NO_DATA:
            held = self.inbox.put(frame.data)
        if frame.flags & REMOTE_CLOSED:
            self.finish()
        return held

    def _expire(self) -> None:
        """End the stream because its time is up."""
        self.finish(DeadlineError(self.opening.path, self.opening.timeout_s))


class StreamCall(Generic[ResponseT]):
    """The part that every kind of stream has: what the server sends."""

    def __init__(self, wire: Wire, stream: Stream, response_type: type[ResponseT]) -> None:
        self._wire = wire
        self._stream = stream
        self._response_type = response_type

    async def _take(self) -> ResponseT | None:
        data = await self._stream.inbox.take()
        return None if data is None else parse_message(self._response_type, data)

    async def _send(self, message: Message) -> None:
        self._stream.check_sending()
        await self._wire.send(self._stream, message.SerializeToString())


class ServerStreamCall(StreamCall[ResponseT]):
    """The messages of the server as an async iterator, which ends when the server ends.

    Iterating raises what :meth:`ttrpc.Client.call` raises. One task iterates at a time.
    """

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ResponseT:
        message = await self._take()
        if message is None:
            raise StopAsyncIteration
        return message


class ClientStreamCall(StreamCall[ResponseT], Generic[RequestT, ResponseT]):
    """Many messages to the server and one reply."""

    async def send(self, message: RequestT) -> None:
        """Send one message; waits while the server does not take what was sent before.

        Raises :class:`MessageTooLargeError` before anything is sent, what the server has ended the
        stream with, and :class:`StreamClosedError` if it has ended it with its reply.
        """
        await self._send(message)

    async def close_sending(self) -> None:
        """Tell the server that no more messages come. Idempotent."""
        await self._wire.end(self._stream)

    async def reply(self) -> ResponseT:
        """Close sending and return the reply. Raises what :meth:`ttrpc.Client.call` raises."""
        await self._wire.end(self._stream)
        message = await self._take()
        if message is None:
            raise UnexpectedFrameError(self._stream.opening.path, "an end", "one response")
        return message


class DuplexCall(ServerStreamCall[ResponseT], Generic[RequestT, ResponseT]):
    """Messages in both directions; iterating and sending may be done by two tasks."""

    async def send(self, message: RequestT) -> None:
        """As :meth:`ClientStreamCall.send`."""
        await self._send(message)

    async def close_sending(self) -> None:
        """Tell the server that no more messages come; its own may go on. Idempotent."""
        await self._wire.end(self._stream)


class StreamScope(Generic[CallT]):
    """The life of one stream as an async context manager: opened on entry, forgotten on exit.

    Leaving without an exception closes the sending side if that has not been done. Leaving with
    one does not, as the server would take a series that was cut off for a whole one; its handler
    then ends by its deadline or with the connection.
    """

    def __init__(self, wire: Wire, opening: Opening, make: Callable[[Wire, Stream], CallT]) -> None:
        self._wire = wire
        self._opening = opening
        self._make = make
        self._stream: Stream | None = None

    async def __aenter__(self) -> CallT:
        self._stream = await self._wire.open(self._opening)
        return self._make(self._wire, self._stream)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            if kind is None:
                await self._wire.end(stream)
        finally:
            self._wire.forget(stream)
