"""What a server serves: methods in tables under the names of services, and what handlers are told.

Methods that stream are in :mod:`ttrpc.streams`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from google.protobuf.message import Message

from ttrpc.messages import Metadata
from ttrpc.status import Code, StatusError

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


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


@dataclass(frozen=True, slots=True)
class AnyMethod:
    """A method of whatever kind; the kind decides what its handler is given and gives."""

    request_type: type[Message]
    response_type: type[Message]
    handler: Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Method(AnyMethod, Generic[RequestT, ResponseT]):
    """One unary method. The handler answers with a message or raises :class:`StatusError`."""

    request_type: type[RequestT]
    response_type: type[ResponseT]
    handler: Callable[[RequestT, CallContext], Awaitable[ResponseT]]


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
