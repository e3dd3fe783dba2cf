"""The Request and Response envelopes inside frames.

Envelopes are generated protobuf messages (``envelope.proto``). A codec of our own in Python was
considered: encoding would be as fast, but decoding would not, and it would have to repeat what the
C parser already gets right about varints, UTF-8, repeated and unknown fields on hostile input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

from google.protobuf.message import DecodeError, Message

from ttrpc.envelope_pb2 import Detail, KeyValue, Request, Response, Status
from ttrpc.errors import MessageDecodeError
from ttrpc.status import MAX_MESSAGE, REFUSAL_TYPE, Code, StatusError

__all__ = [
    "Metadata",
    "Request",
    "Response",
    "decode_request",
    "decode_response",
    "encode_failure",
    "encode_request",
    "encode_success",
    "metadata_of",
    "parse_message",
    "timeout_of",
]

Metadata: TypeAlias = Mapping[str, Sequence[str]]
NO_METADATA: Final[Metadata] = MappingProxyType({})
_NANOSECONDS: Final = 1_000_000_000
_MAX_TIMEOUT_S: Final = 9_000_000_000  # 285 years; more does not fit the field
# Field 1, no content: the empty status submessage that Rust servers put first on success.
_EMPTY_STATUS: Final = b"\x0a\x00"

MessageT = TypeVar("MessageT", bound=Message)


def parse_message(message_type: type[MessageT], data: bytes) -> MessageT:
    """Return ``data`` as a message. Raises :class:`MessageDecodeError`; unknown fields pass."""
    message = message_type()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise MessageDecodeError(message_type.DESCRIPTOR.full_name, len(data)) from error
    return message


def encode_request(
    service: str,
    method: str,
    payload: bytes,
    timeout_s: float | None = None,
    metadata: Metadata | None = None,
) -> bytes:
    """Return the data of a Request frame. Metadata keys go out in lower case, as Rust's do."""
    request = Request(service=service, method=method, payload=payload)
    if timeout_s is not None:
        # 0 would mean "no limit", so the shortest limit is one nanosecond.
        request.timeout_nano = max(int(min(timeout_s, _MAX_TIMEOUT_S) * _NANOSECONDS), 1)
    if metadata:
        for key, values in metadata.items():
            request.metadata.extend(KeyValue(key=key.lower(), value=value) for value in values)
    return request.SerializeToString()


def decode_request(data: bytes) -> Request:
    """Raises :class:`MessageDecodeError` if ``data`` is not a Request envelope."""
    return parse_message(Request, data)


def timeout_of(request: Request) -> float | None:
    """Return the limit in seconds. None for zero and, as in Rust, for negative numbers."""
    nano = request.timeout_nano
    return nano / _NANOSECONDS if nano > 0 else None


def metadata_of(request: Request) -> Metadata:
    """Return the metadata, keys as received, the values of a repeated key in their order."""
    if not request.metadata:
        return NO_METADATA
    collected: dict[str, list[str]] = {}
    for entry in request.metadata:
        collected.setdefault(entry.key, []).append(entry.value)
    return MappingProxyType({key: tuple(values) for key, values in collected.items()})


def encode_success(payload: bytes) -> bytes:
    """Return the data of a Response frame with code OK, byte for byte as a Rust server writes it.

    Rust emits an empty status submessage, Go none; clients take both.
    """
    return _EMPTY_STATUS + Response(payload=payload).SerializeToString()


def encode_failure(code: Code, message: str, *, refused: bool = False) -> bytes:
    """Return the data of a Response frame that carries only a status.

    Total: a text that is too long is cut, and one that UTF-8 cannot express is made expressible.
    """
    text = message[:MAX_MESSAGE].encode("utf-8", "replace").decode()
    status = Status(code=code, message=text)
    if refused:
        status.details.append(Detail(type_url=REFUSAL_TYPE))
    return Response(status=status).SerializeToString()


def decode_response(data: bytes) -> bytes:
    """Return the payload of a successful Response.

    Raises :class:`StatusError` for any other code, and :class:`MessageDecodeError` if ``data`` is
    not a Response envelope. A missing status is success.
    """
    response = parse_message(Response, data)
    if response.status.code != Code.OK:
        status = response.status
        refused = any(detail.type_url == REFUSAL_TYPE for detail in status.details)
        code = Code.from_wire(status.code)
        raise StatusError(code, status.message[:MAX_MESSAGE], refused=refused)
    return response.payload
