"""One HTTP/2 connection of a gRPC client: its calls, what it may hold, and how it ends.

grpclib and h2 speak HTTP/2. What is added here is what a server that other programs depend on
needs: bounds on calls, bytes and unread replies, an end in order, and no fault of one peer that
reaches another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, cast

from grpclib.config import Configuration
from grpclib.protocol import AbstractHandler, Connection, EventsProcessor, H2Protocol, Stream
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived
from h2.exceptions import H2Error
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from secrecy.journal import get_logger, place_of
from serving.grpc_call import (
    MAX_ECHO,
    Headers,
    MethodIndex,
    NotGrpcError,
    context_of,
    parse_headers,
    receive_payload,
    run_method,
    send_http_status,
    send_reply,
    send_status,
)
from ttrpc import Code, PeerCredentials, StatusError

log = get_logger("grpc")

LAST_STREAM: Final = (1 << 31) - 1  # "no new ones": RFC 9113, 6.8
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113, 3.4
FRAME_HEADER: Final = 9  # bytes, length first
MAX_FRAME: Final = 1 << 14  # SETTINGS_MAX_FRAME_SIZE where nobody announces more
H2_CONFIG: Final = H2Configuration(client_side=False, header_encoding="ascii")
CONFIG: Final = Configuration().__for_server__()
WINDOW_BYTES: Final = 4 * 1024 * 1024  # unread at most, of a stream and of a connection


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """What one server grants its peers together and each connection of them."""

    # When all are taken, the one that has been without a call for longest goes.
    connections: int = 128
    # h2 announces 100 and closes a connection that opens more; cancelled calls count until they
    # have cleaned up, so that opening and resetting streams costs the peer its connection.
    calls_per_connection: int = 256
    request_bytes_per_connection: int = 16 * 1024 * 1024
    request_bytes: int = 64 * 1024 * 1024
    # Replies from the end of their handlers until the peer has taken them, as over ttRPC. One for
    # which there is no room is dropped, and its call fails.
    reply_bytes_per_connection: int = 64 * 1024 * 1024
    reply_bytes: int = 128 * 1024 * 1024
    receive_s: float = 30.0  # for the whole of one request
    stalled_write_s: float = 60.0  # without taking anything of what was written
    flush_s: float = 2.0  # for what was written to leave a connection that is closed in order


class Budget:
    """Bytes of requests in flight or of replies, of one connection or of all."""

    def __init__(self, total: int) -> None:
        self._left = total

    def take(self, size: int) -> bool:
        """Take ``size`` bytes if they are left."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """Return what was taken."""
        self._left += size


@dataclass(frozen=True, slots=True)
class CommonBudgets:
    """What all connections of a server share."""

    requests: Budget
    replies: Budget


class Share:
    """What one call has taken of its connection's budget and the server's."""

    def __init__(self, *budgets: Budget) -> None:
        self._budgets = budgets
        self._taken = 0

    def take(self, size: int) -> bool:
        """Take from every budget or from none."""
        for number, budget in enumerate(self._budgets):
            if not budget.take(size):
                for earlier in self._budgets[:number]:
                    earlier.give_back(size)
                return False
        self._taken += size
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for budget in self._budgets:
            budget.give_back(self._taken)


class FrameBound:
    """Finds a frame that is longer than we allow by its header.

    h2 judges a frame when it has all of it: up to 16 MiB of nothing, from everyone who connects.
    """

    def __init__(self) -> None:
        self._skip = len(PREFACE)
        self._header = b""

    def holds(self, data: bytes) -> bool:
        """Whether every frame that begins in ``data``, the next of the stream, is short enough."""
        position = 0
        while position < len(data):
            if self._skip:
                step = min(self._skip, len(data) - position)
                self._skip -= step
                position += step
                continue
            taken = data[position : position + FRAME_HEADER - len(self._header)]
            self._header += taken
            position += len(taken)
            if len(self._header) == FRAME_HEADER:
                self._skip = int.from_bytes(self._header[:3], "big")
                self._header = b""
                if self._skip > MAX_FRAME:
                    return False
        return True


class Calls(AbstractHandler):
    """The calls in flight of one connection, each a task of ``group``."""

    def __init__(
        self,
        methods: MethodIndex,
        limits: GrpcLimits,
        common: CommonBudgets,
        peer: PeerCredentials | None,
        group: asyncio.TaskGroup,
    ) -> None:
        self._methods = methods
        self._limits = limits
        self._requests = (Budget(limits.request_bytes_per_connection), common.requests)
        self._replies = (Budget(limits.reply_bytes_per_connection), common.replies)
        self._peer = peer
        self._group = group
        self._tasks: dict[Stream, asyncio.Task[None]] = {}
        self.closed = False
        self.draining = False
        self.quiet = asyncio.Event()  # no call is in flight
        self.quiet.set()
        self.abort: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._tasks)

    def accept(self, stream: Stream, headers: Headers, release_stream: Callable[[], None]) -> None:
        """Begin a call; grpclib calls this for each new stream."""
        if self.closed or len(self._tasks) >= self._limits.calls_per_connection:
            release_stream()
            self.abort()
            return
        self.quiet.clear()
        task = self._group.create_task(self._serve(stream, headers))
        self._tasks[stream] = task

        def done(_task: asyncio.Task[None]) -> None:
            # A callback, as a task that is cancelled before it began runs no "finally".
            del self._tasks[stream]
            release_stream()
            if not self._tasks:
                self.quiet.set()

        task.add_done_callback(done)

    def cancel(self, stream: Stream) -> None:
        """The client reset this stream."""
        task = self._tasks.get(stream)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """The connection is gone, or going: cancel every call."""
        self.closed = True
        for task in tuple(self._tasks.values()):
            task.cancel()

    async def _serve(self, stream: Stream, headers: Headers) -> None:
        limit = asyncio.timeout(None)
        try:
            async with limit:
                with Share(*self._replies) as share:
                    await self._answer(stream, headers, share, limit)
        except TimeoutError:
            log.warning("reply not taken", seconds=self._limits.stalled_write_s)
            self.abort()
        except H2Error:
            pass  # the client closed the stream, or the connection, while we were answering
        except Exception as error:  # noqa: BLE001 - a fault in one call must not end the others
            log.error(  # noqa: TRY400
                "answering failed", error=type(error).__name__, place=place_of(error)
            )
            self.abort()

    async def _answer(
        self, stream: Stream, headers: Headers, share: Share, limit: asyncio.Timeout
    ) -> None:
        def writing() -> None:
            loop = asyncio.get_running_loop()
            limit.reschedule(loop.time() + self._limits.stalled_write_s)

        try:
            reply = await self._reply(stream, headers)
            if not share.take(len(reply)):
                reply = b""  # not kept while the peer takes the status
                raise StatusError(Code.RESOURCE_EXHAUSTED, "too many large replies at once")
        except NotGrpcError as error:
            writing()
            await send_http_status(stream, error.http_status)
        except StatusError as error:
            writing()
            await send_status(stream, error)
        else:
            writing()
            await send_reply(stream, reply)

    async def _reply(self, stream: Stream, headers: Headers) -> bytes:
        call = parse_headers(headers)
        if self.draining:
            raise StatusError(Code.UNAVAILABLE, "the server is shutting down")
        method = self._methods.find(call.path)
        log.debug("call", method=call.path)
        context = context_of(call, self._peer)
        with Share(*self._requests) as share:
            seconds = self._limits.receive_s
            if call.timeout_s is not None:
                seconds = min(seconds, call.timeout_s)
            payload = await receive_payload(stream, share, seconds)
            try:
                return await run_method(method, payload, context)
            except StatusError:
                raise
            except Exception as error:  # the boundary of a connection
                # By type and place only: arguments may hold what the handler was working on.
                log.error(  # noqa: TRY400
                    "handler failed",
                    method=call.path[:MAX_ECHO],
                    error=type(error).__name__,
                    place=place_of(error),
                )
                text = f"{call.path[:MAX_ECHO]} failed unexpectedly"
                raise StatusError(Code.UNKNOWN, text) from error


class BoundedH2(H2Connection):
    """Remembers fewer closed streams: 65,536 of them are 6 MiB for every connection."""

    MAX_CLOSED_STREAMS = 1024


class GrpcConnection(H2Protocol):
    """The protocol object of one accepted socket."""

    def __init__(self, calls: Calls, limits: GrpcLimits, forget: Callable[[GrpcConnection], None]):
        super().__init__(calls, CONFIG, H2_CONFIG)
        self.calls = calls
        self.calls.abort = self.abort
        self._limits = limits
        self._forget = forget
        self._transport: asyncio.Transport | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._frames = FrameBound()
        self.last_used = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As of grpclib, with an HTTP/2 state of ours."""
        self._transport = cast("asyncio.Transport", transport)
        state = BoundedH2(config=H2_CONFIG)
        state.initiate_connection()
        state.increment_flow_control_window(WINDOW_BYTES - state.local_settings.initial_window_size)
        state.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES})
        self.connection = Connection(state, self._transport, config=CONFIG)
        self.connection.flush()
        self.connection.initialize()
        self.processor = EventsProcessor(self.calls, self.connection)

    def data_received(self, data: bytes) -> None:
        """Feed HTTP/2. What breaks its rules ends this connection, with GOAWAY where h2 has one."""
        self.last_used = asyncio.get_running_loop().time()
        try:
            if not self._frames.holds(data):
                self.close()
                return
            events = self.connection.feed(data)
            self.connection.flush()
            for event in events:
                if self.calls.closed:
                    return
                # Extension frames are to be ignored, and empty data frames would only be queued.
                if type(event) not in self.processor.processors:
                    continue
                if isinstance(event, DataReceived) and not event.flow_controlled_length:
                    continue
                self.processor.process(event)
            if not self.calls.closed:
                self.connection.flush()
        except (H2Error, ValueError, LookupError) as error:
            log.debug("connection broke the rules of HTTP/2", error=type(error).__name__)
            if not self.calls.closed:
                with contextlib.suppress(H2Error):
                    self.connection.flush()  # h2 has written why
            self.close()

    def pause_writing(self) -> None:
        """The peer takes nothing: hear nothing more of it, and not for ever."""
        super().pause_writing()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._watch(self._limits.stalled_write_s, self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _watch(self, seconds: float, give_up: Callable[[], None]) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
        self._stalled = asyncio.get_running_loop().call_later(seconds, give_up)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
        if not self.calls.closed:
            super().connection_lost(exc)
        self._forget(self)

    def go_away(self) -> None:
        """Tell the client to open no further stream here; what is open goes on.

        The frame is written by hand: h2 takes its own as the end of everything.
        """
        self.calls.draining = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(GoAwayFrame(0, last_stream_id=LAST_STREAM).serialize())

    def close(self) -> None:
        """Cancel what is in flight and close; what was written may still arrive, for a while."""
        if self._transport is None:
            self._forget(self)  # it never came to be
        elif not self.calls.closed:
            self.processor.close("closed by the server")
            # Not lost before its peer has taken everything, which may be never.
            self._watch(self._limits.flush_s, self._transport.abort)

    def abort(self) -> None:
        """End at once."""
        self.close()
        if self._transport is not None:
            self._transport.abort()
