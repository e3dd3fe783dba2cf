"""One unary call over gRPC, for doors that are opened as gRPC instead of ttRPC.

The errors are turned into those of :mod:`ttrpc`, so that a command words both alike.
"""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from ttrpc import Code, ConnectionLostError, DeadlineError, StatusError, envelope_pb2
from ttrpc.status import MAX_MESSAGE, REFUSAL_TYPE

ResponseT = TypeVar("ResponseT", bound=Message)
UNIX = "grpc+unix://"


class _DetailTypes(StatusDetailsCodecBase):
    """Reads google.rpc.Status, as far as to the types of its details."""

    def encode(self, _status: Status, _message: str | None, _details: Any) -> bytes:
        return b""  # a client sends none

    def decode(self, _status: Status, _message: str | None, data: bytes) -> frozenset[str]:
        try:
            found = envelope_pb2.Status.FromString(data)
        except DecodeError:
            return frozenset()
        return frozenset(detail.type_url for detail in found.details)


def _channel(address: str) -> Channel:
    """Raises ``ValueError`` if ``address`` is neither ``HOST:PORT`` nor ``grpc+unix:///PATH``."""
    details = _DetailTypes()
    if address.startswith(UNIX + "/"):
        return Channel(path=address.removeprefix(UNIX), status_details_codec=details)
    host, _, port = address.rpartition(":")
    return Channel(host.strip("[]"), int(port), status_details_codec=details)


def check_address(address: str) -> str:
    """Return ``address``. Raises ``ValueError`` if it is not one that can be asked."""
    host, _, port = address.rpartition(":")
    if not address.startswith(UNIX + "/") and not (host and port.isdigit() and int(port) < 65536):
        raise ValueError(address)
    return address


async def ask(
    address: str, path: str, request: Message, response_type: type[ResponseT], timeout_s: float
) -> ResponseT:
    """Call ``/package.Service/Method`` once on a connection of its own.

    Raises :class:`ttrpc.StatusError`, :class:`ttrpc.DeadlineError` and
    :class:`ttrpc.ConnectionLostError`. Cancellation closes the connection.
    """
    channel = _channel(address)
    try:
        method = UnaryUnaryMethod(channel, path, type(request), response_type)
        return await method(request, timeout=timeout_s)
    except GRPCError as error:
        code = Code.from_wire(error.status.value)
        refused = REFUSAL_TYPE in (error.details or ())
        raise StatusError(code, (error.message or "")[:MAX_MESSAGE], refused=refused) from error
    except TimeoutError as error:
        raise DeadlineError(path, timeout_s) from error
    except OSError as error:
        raise ConnectionLostError(address, error.strerror or type(error).__name__) from error
    except (StreamTerminatedError, ProtocolError) as error:
        raise ConnectionLostError(address, "the answer is not gRPC, or broke off") from error
    finally:
        channel.close()
