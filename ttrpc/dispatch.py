"""From a Request envelope to a Response envelope: service tables, deadline, error boundary.

No I/O; the connection that a request came in on belongs to :mod:`ttrpc.server`. Codes and texts
on bad input are those of ttrpc-rust 0.9 (src/asynchronous/server.rs), because kata-agent and the
reference services are Rust.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from google.protobuf.message import Message

from secrecy.journal import get_logger, place_of
from ttrpc.errors import MessageDecodeError, MessageTooLargeError, ServiceTableError
from ttrpc.frames import MAX_DATA_BYTES
from ttrpc.inbox import Inbox
from ttrpc.messages import (
    Request,
    encode_failure,
    encode_success,
    metadata_of,
    parse_message,
    timeout_of,
)
from ttrpc.methods import CallContext, Method, PeerCredentials, ServiceTable
from ttrpc.status import Code, StatusError
from ttrpc.streams import (
    ClientStreamMethod,
    DuplexMethod,
    Outlet,
    Receiver,
    Sender,
    ServerStreamMethod,
)

log = get_logger("ttrpc")

MAX_ECHO: Final = 200  # characters of a peer's service or method name that go back in a text

T = TypeVar("T")
StreamMethod: TypeAlias = (
    ClientStreamMethod[Any, Any] | ServerStreamMethod[Any, Any] | DuplexMethod[Any, Any]
)


class Dispatcher:
    """Finds the method of a request, runs its handler and turns every outcome into a reply."""

    def __init__(self, services: Sequence[ServiceTable]) -> None:
        """Raises :class:`ServiceTableError` if two tables have the same name.

        Raises ``TypeError`` for a method that is none of the four kinds.
        """
        # Bound once, as doing it for each line takes an eighth of a call; so the level is the one
        # that is set when the server is made.
        self._log = log.bind()
        self._services: dict[str, dict[str, Method[Any, Any]]] = {}
        self._streams: dict[tuple[str, str], StreamMethod] = {}
        for table in services:
            if table.name in self._services:
                raise ServiceTableError(table.name)
            unary = self._services[table.name] = {}
            for name, method in table.methods.items():
                if isinstance(method, Method):
                    unary[name] = method
                elif isinstance(method, ClientStreamMethod | ServerStreamMethod | DuplexMethod):
                    self._streams[table.name, name] = method
                else:
                    raise TypeError(f"/{table.name}/{name} is of no kind that can be served")

    def streaming(self, request: Request) -> StreamMethod | None:
        """Return the method that ``request`` names if it is served and streams.

        As in both references it is the method that decides, not the flags of the frame.
        """
        if not self._streams:
            return None
        return self._streams.get((request.service, request.method))

    async def answer(self, request: Request, peer: PeerCredentials | None) -> bytes:
        """Return the data of the Response frame for a unary ``request``, never more than 4 MiB.

        The deadline runs from this call. Raises nothing but what is not an ``Exception``:
        cancellation passes through and leaves the caller to decide whether anybody still listens.
        """
        try:
            method = self._find(request)
            self._log.debug("call", service=request.service, method=request.method)
            message = _parse_payload(method, request)
            return _success(request, await _run(method, message, request, peer))
        except Exception as error:  # noqa: BLE001 - the one boundary where any failure is an answer
            return _failure(request, error)

    async def stream(
        self,
        method: StreamMethod,
        request: Request,
        inbox: Inbox,
        outlet: Outlet,
        peer: PeerCredentials | None,
    ) -> bytes | None:
        """Run a streaming handler to its end; what it sends has gone to ``outlet`` by then.

        Return the data of the Response frame that ends the stream, ``None`` if it ends by a Data
        frame. Deadline and exceptions as for :meth:`answer`.
        """
        self._log.debug("stream", service=request.service, method=request.method)
        try:
            reply = await _in_time(request, peer, _Streaming(method, inbox, outlet).run)
            return None if reply is None else _success(request, reply)
        except Exception as error:  # noqa: BLE001 - as for unary calls
            return _failure(request, error)

    def _find(self, request: Request) -> Method[Any, Any]:
        methods = self._services.get(request.service)
        if methods is None:
            service = request.service[:MAX_ECHO]
            raise StatusError(Code.INVALID_ARGUMENT, f"{service} service does not exist")
        method = methods.get(request.method)
        if method is None:
            raise StatusError(Code.UNIMPLEMENTED, f"{request.method[:MAX_ECHO]} method")
        return method


def _success(request: Request, message: Message) -> bytes:
    reply = encode_success(message.SerializeToString())
    if len(reply) <= MAX_DATA_BYTES:
        return reply
    log.warning("reply too large", method=_path(request), length=len(reply))
    text = str(MessageTooLargeError(len(reply), MAX_DATA_BYTES))
    return encode_failure(Code.INVALID_ARGUMENT, text)


def _failure(request: Request, error: Exception) -> bytes:
    if isinstance(error, StatusError):
        return encode_failure(error.code, error.message, refused=error.refused)
    # By type and place only: the arguments may hold what the handler was working on.
    log.error(
        "handler failed",
        method=_path(request),
        error=type(error).__name__,
        place=place_of(error),
    )
    return encode_failure(Code.UNKNOWN, f"{_path(request)} failed unexpectedly")


def _parse_payload(method: Method[Any, Any], request: Request) -> Message:
    try:
        message: Message = parse_message(method.request_type, request.payload)
    except MessageDecodeError as error:
        raise StatusError(Code.UNKNOWN, f"ttrpc err: {error}") from error
    return message


async def _run(
    method: Method[Any, Any], message: Message, request: Request, peer: PeerCredentials | None
) -> Message:
    if request.timeout_nano <= 0:  # without the detour, as nearly all calls are without a limit
        context = CallContext(None, metadata_of(request), peer)
        return _typed(await method.handler(message, context), method.response_type)

    async def handle(context: CallContext) -> Message:
        return _typed(await method.handler(message, context), method.response_type)

    return await _in_time(request, peer, handle)


async def _in_time(
    request: Request, peer: PeerCredentials | None, handle: Callable[[CallContext], Awaitable[T]]
) -> T:
    timeout_s = timeout_of(request)
    metadata = metadata_of(request)
    if timeout_s is None:
        return await handle(CallContext(None, metadata, peer))
    deadline = asyncio.get_running_loop().time() + timeout_s
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            return await handle(CallContext(deadline, metadata, peer))
    except Exception as error:
        # A handler may have turned the expiry into an error of its own, or have met a TimeoutError
        # that is none of ours.
        if limit.expired():
            raise StatusError(Code.DEADLINE_EXCEEDED, "timeout") from error
        raise


def _typed(reply: object, expected: type[Message]) -> Message:
    if type(reply) is not expected:
        raise TypeError(type(reply).__name__)
    return reply


@dataclass(frozen=True, slots=True)
class _Streaming:
    """A streaming method with the two sides of its stream."""

    method: StreamMethod
    inbox: Inbox
    outlet: Outlet

    async def run(self, context: CallContext) -> Message | None:
        """Return the reply of a client-streaming method, ``None`` for the other kinds."""
        method = self.method
        receiver: Receiver[Any] = Receiver(self.inbox, method.request_type)
        if isinstance(method, ClientStreamMethod):
            return _typed(await method.handler(receiver, context), method.response_type)
        sender: Sender[Any] = Sender(self.outlet, method.response_type)
        if isinstance(method, DuplexMethod):
            await method.handler(receiver, sender, context)
            return None
        async for message in receiver:
            await method.handler(message, sender, context)
            return None
        raise StatusError(Code.INVALID_ARGUMENT, "the stream ended before its request")


def _path(request: Request) -> str:
    return f"/{request.service[:MAX_ECHO]}/{request.method[:MAX_ECHO]}"
