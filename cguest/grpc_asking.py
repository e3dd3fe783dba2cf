"""One unary call over gRPC, for doors that are opened as gRPC instead of ttRPC.

The errors are turned into those of :mod:`ttrpc`, so that a command words both alike.
"""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from ttrpc import Code, ConnectionLostError, DeadlineError, StatusError

ResponseT = TypeVar("ResponseT", bound=Message)
UNIX = "grpc+unix://"


def _channel(address: str) -> Channel:
    """Raises ``ValueError`` if ``address`` is neither ``HOST:PORT`` nor ``grpc+unix:///PATH``."""
    if address.startswith(UNIX + "/"):
        return Channel(path=address.removeprefix(UNIX))
    host, _, port = address.rpartition(":")
    return Channel(host.strip("[]") or "127.0.0.1", int(port))


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
        raise StatusError(code, (error.message or "")[:4096]) from error
    except TimeoutError as error:
        raise DeadlineError(path, timeout_s) from error
    except OSError as error:
        raise ConnectionLostError(address, error.strerror or type(error).__name__) from error
    except (StreamTerminatedError, ProtocolError) as error:
        raise ConnectionLostError(address, "the answer is not gRPC, or broke off") from error
    finally:
        channel.close()
