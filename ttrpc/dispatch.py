"""From a Request envelope to a Response envelope: service tables, deadline, error boundary.

No I/O; the connection that a request came in on belongs to :mod:`ttrpc.server`. Codes and texts
on bad input are those of ttrpc-rust 0.9 (src/asynchronous/server.rs), because kata-agent and the
reference services are Rust.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Generic, NoReturn, TypeAlias, TypeVar

from google.protobuf.message import Message

from secrecy.journal import get_logger
from ttrpc.errors import MessageDecodeError, MessageTooLargeError, ServiceTableError
from ttrpc.frames import MAX_DATA_BYTES
from ttrpc.messages import (
    Metadata,
    Request,
    encode_failure,
    encode_success,
    metadata_of,
    parse_message,
    timeout_of,
)
from ttrpc.status import Code, StatusError

log = get_logger("ttrpc")

MAX_ECHO: Final = 200  # characters of a peer's service or method name that go back in a text


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Who connected, as the kernel recorded it at connect time (SO_PEERCRED, unix(7))."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a handler may know of the call beside its request.

    ``deadline`` is on the clock of ``loop.time()``, seconds; ``None`` if the caller set no limit.
    The dispatcher enforces it, so a handler reads it only to plan. ``metadata`` holds the keys as
    received. ``peer`` is ``None`` on anything but a unix socket.
    """

    deadline: float | None
    metadata: Metadata
    peer: PeerCredentials | None


RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[RequestT, ResponseT]):
    """One unary method. The handler answers with a message or raises :class:`StatusError`."""

    request_type: type[RequestT]
    response_type: type[ResponseT]
    handler: Callable[[RequestT, CallContext], Awaitable[ResponseT]]


AnyMethod: TypeAlias = Method[Any, Any]


@dataclass(frozen=True, slots=True)
class ServiceTable:
    """The methods served under one full service name, for example ``api.GetResourceService``."""

    name: str
    methods: Mapping[str, AnyMethod]


def unsupported(path: str) -> Callable[[Message, CallContext], Awaitable[NoReturn]]:
    """Return a handler for a method that is in the interface and not served.

    ``path`` is ``/package.Service/Method``. The answer is NOT_FOUND, as from the stubs that the
    Rust code generator writes; a method outside the interface gets UNIMPLEMENTED instead.
    """

    async def refuse(_request: Message, _context: CallContext) -> NoReturn:
        raise StatusError(Code.NOT_FOUND, f"{path} is not supported")

    return refuse


class Dispatcher:
    """Finds the method of a request, runs its handler and turns every outcome into a reply."""

    def __init__(self, services: Sequence[ServiceTable]) -> None:
        """Raises :class:`ServiceTableError` if two tables have the same name."""
        self._services: dict[str, Mapping[str, AnyMethod]] = {}
        for table in services:
            if table.name in self._services:
                raise ServiceTableError(table.name)
            self._services[table.name] = table.methods

    async def answer(self, request: Request, peer: PeerCredentials | None) -> bytes:
        """Return the data of the Response frame for ``request``, never more than 4 MiB.

        The deadline runs from this call. Raises nothing but what is not an ``Exception``:
        cancellation passes through and leaves the caller to decide whether anybody still listens.
        """
        try:
            method = self._find(request)
            log.debug("call", service=request.service, method=request.method)
            message = _parse_payload(method, request)
            reply = encode_success((await _run(method, message, request, peer)).SerializeToString())
            if len(reply) <= MAX_DATA_BYTES:
                return reply
            log.warning("reply too large", method=_path(request), length=len(reply))
            text = str(MessageTooLargeError(len(reply), MAX_DATA_BYTES))
            return encode_failure(Code.INVALID_ARGUMENT, text)
        except StatusError as error:
            return encode_failure(error.code, error.message, refused=error.refused)
        except Exception as error:  # noqa: BLE001 - the one boundary where any failure is an answer
            # By type and place only: the arguments may hold what the handler was working on.
            log.error(  # noqa: TRY400
                "handler failed",
                method=_path(request),
                error=type(error).__name__,
                place=_place(error.__traceback__),
            )
            return encode_failure(Code.UNKNOWN, f"{_path(request)} failed unexpectedly")

    def _find(self, request: Request) -> AnyMethod:
        methods = self._services.get(request.service)
        if methods is None:
            service = request.service[:MAX_ECHO]
            raise StatusError(Code.INVALID_ARGUMENT, f"{service} service does not exist")
        method = methods.get(request.method)
        if method is None:
            raise StatusError(Code.UNIMPLEMENTED, f"{request.method[:MAX_ECHO]} method")
        return method


def _parse_payload(method: AnyMethod, request: Request) -> Message:
    try:
        message: Message = parse_message(method.request_type, request.payload)
    except MessageDecodeError as error:
        raise StatusError(Code.UNKNOWN, f"ttrpc err: {error}") from error
    return message


async def _run(
    method: AnyMethod, message: Message, request: Request, peer: PeerCredentials | None
) -> Message:
    timeout_s = timeout_of(request)
    metadata = metadata_of(request)
    if timeout_s is None:
        return await _typed(method, message, CallContext(None, metadata, peer))
    deadline = asyncio.get_running_loop().time() + timeout_s
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            return await _typed(method, message, CallContext(deadline, metadata, peer))
    except Exception as error:
        # A handler may have turned the expiry into an error of its own, or have met a TimeoutError
        # that is none of ours.
        if limit.expired():
            raise StatusError(Code.DEADLINE_EXCEEDED, "timeout") from error
        raise


async def _typed(method: AnyMethod, message: Message, context: CallContext) -> Message:
    reply: Message = await method.handler(message, context)
    if type(reply) is not method.response_type:
        raise TypeError(type(reply).__name__)
    return reply


def _path(request: Request) -> str:
    return f"/{request.service[:MAX_ECHO]}/{request.method[:MAX_ECHO]}"


def _place(trace: TracebackType | None) -> str:
    """Return function and line of the innermost frame."""
    place = "unknown"
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
