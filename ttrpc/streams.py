"""Streaming methods of a server: their three kinds, and what their handlers read and write.

A :class:`Receiver` gives the messages of the client, a :class:`Sender` takes those for it. The
frames below them are the business of :mod:`ttrpc.serverstreams`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from google.protobuf.message import Message

from ttrpc.errors import MessageDecodeError
from ttrpc.inbox import Inbox
from ttrpc.messages import parse_message
from ttrpc.methods import AnyMethod, CallContext
from ttrpc.status import Code, StatusError

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class Outlet(Protocol):
    """Where a sender puts its messages."""

    async def post(self, data: bytes) -> None:
        """Send one message as soon as the peer takes what was sent before."""


class Receiver(Generic[RequestT]):
    """The client's messages, in order, as an async iterator that ends when the client has ended.

    One task reads it at a time. A handler need not read to the end: what it leaves is dropped.
    """

    __slots__ = ("_inbox", "_message_type")

    def __init__(self, inbox: Inbox, message_type: type[RequestT]) -> None:
        self._inbox = inbox
        self._message_type = message_type

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RequestT:
        """Raises :class:`StatusError` for bytes that are not the message, as Rust's code 2."""
        data = await self._inbox.take()
        if data is None:
            raise StopAsyncIteration
        try:
            return parse_message(self._message_type, data)
        except MessageDecodeError as error:
            raise StatusError(Code.UNKNOWN, f"ttrpc err: {error}") from error


class Sender(Generic[ResponseT]):
    """Takes messages for the client. Several tasks of a handler may share it."""

    __slots__ = ("_message_type", "_outlet")

    def __init__(self, outlet: Outlet, message_type: type[ResponseT]) -> None:
        self._outlet = outlet
        self._message_type = message_type

    async def send(self, message: ResponseT) -> None:
        """Send one message; waits while the client does not take what was sent before.

        Raises :class:`StatusError`, which the handler may let through, if the message is longer
        than 4 MiB or the stream has ended. Cancelled while it waits, it has sent nothing.
        """
        if type(message) is not self._message_type:
            raise TypeError(type(message).__name__)
        await self._outlet.post(message.SerializeToString())


@dataclass(frozen=True, slots=True)
class ClientStreamMethod(AnyMethod, Generic[RequestT, ResponseT]):
    """Many messages in, one out. The handler may answer before the client has ended."""

    request_type: type[RequestT]
    response_type: type[ResponseT]
    handler: Callable[[Receiver[RequestT], CallContext], Awaitable[ResponseT]]


@dataclass(frozen=True, slots=True)
class ServerStreamMethod(AnyMethod, Generic[RequestT, ResponseT]):
    """One message in, many out. The stream ends when the handler returns."""

    request_type: type[RequestT]
    response_type: type[ResponseT]
    handler: Callable[[RequestT, Sender[ResponseT], CallContext], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DuplexMethod(AnyMethod, Generic[RequestT, ResponseT]):
    """Many messages in and many out, in any interleaving. Ends when the handler returns."""

    request_type: type[RequestT]
    response_type: type[ResponseT]
    handler: Callable[[Receiver[RequestT], Sender[ResponseT], CallContext], Awaitable[None]]
