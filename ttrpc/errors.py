"""What can go wrong with a ttRPC call, by who is at fault.

::

    TtrpcError
    ├── StatusError            the server answered with a code (module status)
    ├── DeadlineError          the time was up, here or at the server
    ├── ConnectionLostError    the server cannot be reached or has gone; calls in flight are lost
    ├── MessageTooLargeError   a message beyond 4 MiB, ours before sending or theirs
    ├── MessageDecodeError     bytes of the peer that are not the message they should be
    ├── UnexpectedFrameError   the server sent a frame that the kind of stream does not have
    ├── StreamBacklogError     untaken messages of the server stood in the way of other calls
    ├── StreamClosedError      misuse by us: sending on a stream that is over
    └── ServiceTableError      misuse by us: tables that contradict each other
"""

from __future__ import annotations


class TtrpcError(Exception):
    """Base of all errors of this package."""


class DeadlineError(TtrpcError):
    """The call did not finish in its time. What the server did of it is unknown."""

    def __init__(self, path: str, timeout_s: float | None) -> None:
        self.path = path
        self.timeout_s = timeout_s
        limit = "its time" if timeout_s is None else f"{timeout_s:g} s"
        super().__init__(f"calling {path}: no reply within {limit}")


class ConnectionLostError(TtrpcError):
    """There is no connection, or it ended while a call was pending. Connect anew to go on."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__(
            f"connection to {address}: {reason} (is the service that owns the socket running?)"
        )


class MessageTooLargeError(TtrpcError):
    """A message longer than a frame may carry. The text is the one both references send."""

    def __init__(self, length: int, limit: int) -> None:
        self.length = length
        self.limit = limit
        super().__init__(f"message length {length} exceed maximum message size of {limit}")


class MessageDecodeError(TtrpcError):
    """Bytes of the peer are not the protobuf message they should be. Holds none of the bytes."""

    def __init__(self, what: str, length: int) -> None:
        self.what = what
        self.length = length
        super().__init__(f"{length} bytes received as {what} are not such a message")


class ServiceTableError(TtrpcError):
    """Two tables given to one server claim the same service."""

    def __init__(self, service: str) -> None:
        self.service = service
        super().__init__(f"service {service} is in two tables of one server")


class StreamClosedError(TtrpcError):
    """Misuse by us: a message for a stream that this side or the server has ended."""

    def __init__(self, path: str, by: str) -> None:
        self.path = path
        self.by = by
        super().__init__(f"sending on {path}: the stream was ended by {by}")


class UnexpectedFrameError(TtrpcError):
    """The server sent a frame that this kind of stream does not have."""

    def __init__(self, path: str, got: str, expected: str) -> None:
        self.path = path
        self.got = got
        self.expected = expected
        super().__init__(f"calling {path}: the server sent {got}, expected {expected}")


class StreamBacklogError(TtrpcError):
    """Messages of the server were not taken and held up every other call of the connection."""

    def __init__(self, path: str, held: int) -> None:
        self.path = path
        self.held = held
        super().__init__(f"calling {path}: given up with {held} bytes that nobody took")
