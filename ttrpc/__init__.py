"""ttRPC over unix sockets: the protocol that kata-agent and the guest services speak.

``PROTOCOL.md`` beside this file describes the wire. Unary and streaming calls, server and client.
Knows no service; those are in :mod:`protos`.
"""

from __future__ import annotations

from ttrpc.client import Client
from ttrpc.clientstreams import ClientStreamCall, DuplexCall, ServerStreamCall
from ttrpc.errors import (
    ConnectionLostError,
    DeadlineError,
    MessageDecodeError,
    MessageTooLargeError,
    ServiceTableError,
    StreamBacklogError,
    StreamClosedError,
    TtrpcError,
    UnexpectedFrameError,
)
from ttrpc.frames import MAX_DATA_BYTES
from ttrpc.limits import Limits
from ttrpc.messages import Metadata
from ttrpc.methods import (
    AnyMethod,
    CallContext,
    Method,
    PeerCredentials,
    ServiceTable,
    unsupported,
)
from ttrpc.server import Server
from ttrpc.status import Code, StatusError
from ttrpc.streams import ClientStreamMethod, DuplexMethod, Receiver, Sender, ServerStreamMethod

__all__ = [
    "MAX_DATA_BYTES",
    "AnyMethod",
    "CallContext",
    "Client",
    "ClientStreamCall",
    "ClientStreamMethod",
    "Code",
    "ConnectionLostError",
    "DeadlineError",
    "DuplexCall",
    "DuplexMethod",
    "Limits",
    "MessageDecodeError",
    "MessageTooLargeError",
    "Metadata",
    "Method",
    "PeerCredentials",
    "Receiver",
    "Sender",
    "Server",
    "ServerStreamCall",
    "ServerStreamMethod",
    "ServiceTable",
    "ServiceTableError",
    "StatusError",
    "StreamBacklogError",
    "StreamClosedError",
    "TtrpcError",
    "UnexpectedFrameError",
    "unsupported",
]
