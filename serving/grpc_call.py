"""One gRPC call on a stream that is open: read the request, run the handler, write the answer.

Codes and texts of handlers are those of ttRPC. Where gRPC has codes of its own (unknown methods,
messages that are too long, undecodable ones) they are what gRPC's clients know: see
grpc/grpc, doc/statuscodes.md and doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

from google.protobuf.message import DecodeError, Message
from grpclib.metadata import encode_bin_value, encode_grpc_message
from grpclib.protocol import Stream

from secrecy.journal import get_logger
from ttrpc import (
    MAX_DATA_BYTES,
    AnyMethod,
    CallContext,
    Code,
    MessageTooLargeError,
    Metadata,
    Method,
    PeerCredentials,
    ServiceTable,
    ServiceTableError,
    StatusError,
)
from ttrpc.envelope_pb2 import Detail, Status
from ttrpc.status import REFUSAL_TYPE

log = get_logger("grpc")

Headers: TypeAlias = Sequence[tuple[str, str]]
CONTENT_TYPE: Final = "application/grpc"
PREFIX: Final = struct.Struct(">BI")  # compressed flag, length
MAX_TEXT: Final = 1200  # characters of a status text; clients bound all headers together to 8 KiB
MAX_ENCODED_TEXT: Final = 6000  # bytes of it as a header
MAX_ECHO: Final = 200
# doc/PROTOCOL-HTTP2.md: at most eight digits.
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_OWN_HEADERS: Final = frozenset({"te", "content-type", "user-agent"})
_TABLES_STATUS: Final = ((":status", "200"), ("content-type", CONTENT_TYPE))


class MethodIndex:
    """The unary methods of tables by their path ``/package.Service/Method``."""

    def __init__(self, tables: Sequence[ServiceTable]) -> None:
        """Raises :class:`ttrpc.ServiceTableError` if two tables have the same name."""
        self._methods: dict[str, AnyMethod] = {}
        self._services: set[str] = set()
        for table in tables:
            if table.name in self._services:
                raise ServiceTableError(table.name)
            self._services.add(table.name)
            for name, method in table.methods.items():
                self._methods[f"/{table.name}/{name}"] = method

    def find(self, path: str) -> Method[Any, Any]:
        """Return the method. Raises :class:`ttrpc.StatusError` with UNIMPLEMENTED."""
        method = self._methods.get(path)
        if isinstance(method, Method):
            return method
        shown = path[:MAX_ECHO]
        if method is not None:
            raise StatusError(Code.UNIMPLEMENTED, f"{shown} streams; only ttRPC serves it")
        service = path[1:].partition("/")[0]
        if service in self._services:
            raise StatusError(Code.UNIMPLEMENTED, f"{shown} method")
        raise StatusError(Code.UNIMPLEMENTED, f"{service[:MAX_ECHO]} service does not exist")


class ByteBudget(Protocol):
    """Grants memory for requests that are being received or handled."""

    def take(self, size: int) -> bool:
        """Take ``size`` bytes, or nothing and return False."""


@dataclass(frozen=True, slots=True)
class CallHeaders:
    """What the headers of a request say."""

    path: str
    timeout_s: float | None
    metadata: Metadata


class NotGrpcError(Exception):
    """A request that is not gRPC; ``http_status`` answers it."""

    def __init__(self, http_status: int) -> None:
        self.http_status = http_status
        super().__init__(f"not a gRPC request, answered with HTTP status {http_status}")


def parse_headers(headers: Headers) -> CallHeaders:
    """Judge a request's headers.

    Raises :class:`NotGrpcError` or :class:`ttrpc.StatusError`. Metadata keeps its keys, which
    HTTP/2 has in lower case; values of ``-bin`` keys stay base64.
    """
    found: dict[str, str] = {}
    metadata: dict[str, list[str]] = {}
    for key, value in headers:
        if key.startswith((":", "grpc-")) or key in _OWN_HEADERS:
            found.setdefault(key, value)
        else:
            metadata.setdefault(key, []).append(value)
    if found.get(":method") != "POST":
        raise NotGrpcError(405)
    if found.get("content-type", "").partition(";")[0] not in {
        CONTENT_TYPE,
        f"{CONTENT_TYPE}+proto",
    }:
        raise NotGrpcError(415)
    if found.get("grpc-encoding", "identity") != "identity":
        raise StatusError(Code.UNIMPLEMENTED, "grpc-encoding: only identity is accepted")
    return CallHeaders(
        found.get(":path", ""),
        _timeout(found.get("grpc-timeout")),
        MappingProxyType({key: tuple(values) for key, values in metadata.items()}),
    )


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise StatusError(Code.INVALID_ARGUMENT, "grpc-timeout is malformed")
    seconds = int(match[1]) * _UNITS[match[2]]
    if not seconds:
        raise StatusError(Code.DEADLINE_EXCEEDED, "timeout")
    return seconds


async def receive_payload(stream: Stream, budget: ByteBudget, timeout_s: float) -> bytes:
    """Return the bytes of the one message of a request, once the client has ended its side.

    Raises :class:`ttrpc.StatusError` for anything else than one message of at most 4 MiB within
    ``timeout_s``. A message that is too long is refused by its announced length.
    """
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            prefix = await _exactly(stream, PREFIX.size)
            compressed, length = PREFIX.unpack(prefix)
            if compressed:
                raise StatusError(Code.UNIMPLEMENTED, "compressed messages are not accepted")
            if length > MAX_DATA_BYTES:
                text = str(MessageTooLargeError(length, MAX_DATA_BYTES))
                raise StatusError(Code.RESOURCE_EXHAUSTED, text)
            if not budget.take(length):
                raise StatusError(Code.RESOURCE_EXHAUSTED, "too many large requests at once")
            payload = await _exactly(stream, length)
            if await _read(stream, 1):
                raise StatusError(Code.INVALID_ARGUMENT, "more than one message in a unary call")
            return payload
    except TimeoutError as error:
        text = f"the request was not complete within {timeout_s:g} s"
        raise StatusError(Code.DEADLINE_EXCEEDED, text) from error


async def _exactly(stream: Stream, size: int) -> bytes:
    data = await _read(stream, size)
    if len(data) != size:
        raise StatusError(Code.INVALID_ARGUMENT, "the request ends before its message does")
    return data


async def _read(stream: Stream, size: int) -> bytes:
    """Return ``size`` bytes, or fewer at the end of the client's side."""
    try:
        return await stream.recv_data(size)
    except AssertionError:
        # This is how grpclib's buffer speaks of a message that was cut off.
        return b""


async def run_method(method: Method[Any, Any], payload: bytes, context: CallContext) -> bytes:
    """Return the reply's bytes. Raises :class:`ttrpc.StatusError` and passes cancellation.

    What a handler raises besides is logged by its type and answered without its text.
    """
    request = _parse(method, payload)
    limit = asyncio.timeout_at(context.deadline)
    try:
        async with limit:
            reply: Message = await method.handler(request, context)
        if type(reply) is not method.response_type:
            raise TypeError(type(reply).__name__)
        data = reply.SerializeToString()
    except Exception as error:  # named and passed on
        if limit.expired():
            raise StatusError(Code.DEADLINE_EXCEEDED, "timeout") from error
        raise
    if len(data) > MAX_DATA_BYTES:
        text = str(MessageTooLargeError(len(data), MAX_DATA_BYTES))
        raise StatusError(Code.RESOURCE_EXHAUSTED, text)
    return data


def _parse(method: Method[Any, Any], payload: bytes) -> Message:
    message: Message = method.request_type()
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        name = method.request_type.DESCRIPTOR.full_name
        text = f"{len(payload)} bytes received as {name} are not such a message"
        raise StatusError(Code.INTERNAL, text) from error
    return message


def context_of(call: CallHeaders, peer: PeerCredentials | None) -> CallContext:
    """Start the deadline: it runs from here."""
    if call.timeout_s is None:
        return CallContext(None, call.metadata, peer)
    return CallContext(asyncio.get_running_loop().time() + call.timeout_s, call.metadata, peer)


async def send_reply(stream: Stream, data: bytes) -> None:
    """Write a message and the trailers of success. Waits for the peer to take it."""
    await stream.send_headers(list(_TABLES_STATUS))
    await stream.send_data(PREFIX.pack(0, len(data)) + data)
    await stream.send_headers([("grpc-status", "0")], end_stream=True)


async def send_status(stream: Stream, error: StatusError) -> None:
    """Answer with a status only. A client that is still sending is told to stop."""
    headers = [*_TABLES_STATUS, ("grpc-status", str(int(error.code)))]
    headers.append(("grpc-message", _header_text(error.message)))
    if error.refused:
        headers.append(("grpc-status-details-bin", _details(error)))
    await _end(stream, headers)


async def send_http_status(stream: Stream, status: int) -> None:
    """Answer a request that is not gRPC."""
    await _end(stream, [(":status", str(status))])


async def _end(stream: Stream, headers: list[tuple[str, str]]) -> None:
    await stream.send_headers(headers, end_stream=True)
    if stream.closable:
        stream.reset_nowait()


def _header_text(text: str) -> str:
    clean = text[:MAX_TEXT].encode("utf-8", "replace").decode()
    encoded = encode_grpc_message(clean)
    # One character of four bytes takes twelve as a header.
    return encoded if len(encoded) <= MAX_ENCODED_TEXT else encode_grpc_message(clean[:500])


def _details(error: StatusError) -> str:
    """Return google.rpc.Status, whose numbers ttRPC's envelope shares."""
    status = Status(code=int(error.code), details=[Detail(type_url=REFUSAL_TYPE)])
    return encode_bin_value(status.SerializeToString()).decode("ascii")
