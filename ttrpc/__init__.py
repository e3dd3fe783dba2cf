"""ttRPC over unix sockets: the protocol that kata-agent and the guest services speak.

``PROTOCOL.md`` beside this file describes the wire. Unary calls only. Knows no service; those are
in :mod:`protos`.
"""

from __future__ import annotations

from ttrpc.client import Client
from ttrpc.dispatch import CallContext, Method, PeerCredentials, ServiceTable, unsupported
from ttrpc.errors import (
    ConnectionLostError,
    DeadlineError,
    MessageDecodeError,
    MessageTooLargeError,
    ServiceTableError,
    TtrpcError,
)
from ttrpc.frames import MAX_DATA_BYTES
from ttrpc.limits import Limits
from ttrpc.messages import Metadata
from ttrpc.server import Server
from ttrpc.status import Code, StatusError

__all__ = [
    "MAX_DATA_BYTES",
    "CallContext",
    "Client",
    "Code",
    "ConnectionLostError",
    "DeadlineError",
    "Limits",
    "MessageDecodeError",
    "MessageTooLargeError",
    "Metadata",
    "Method",
    "PeerCredentials",
    "Server",
    "ServiceTable",
    "ServiceTableError",
    "StatusError",
    "TtrpcError",
    "unsupported",
]
