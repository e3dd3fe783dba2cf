"""Status codes of a reply, and the error by which a handler or a caller speaks of one.

The numbers are those of google.rpc.Code. Outside 0 to 16 nothing may be sent: the Rust peers map
the field onto a closed enumeration.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from ttrpc.errors import TtrpcError

# Type of the detail that marks a refusal. The reference's codes are the same for "somebody said no"
# and "it could not be found out"; its clients skip details, ours tell the two apart by this one.
REFUSAL_TYPE: Final = "cguest.v1.Refusal"
MAX_MESSAGE: Final = 4096  # characters of a status text that we keep of a peer's


class Code(IntEnum):
    """google/rpc/code.proto."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @classmethod
    def from_wire(cls, number: int) -> Code:
        """Return the code, or ``UNKNOWN`` for a number that google.rpc.Code does not have."""
        try:
            return cls(number)
        except ValueError:
            return cls.UNKNOWN


class StatusError(TtrpcError):
    """A call ended with a code other than OK.

    A handler raises it to answer its peer, and everything in ``message`` crosses the socket: no
    secrets, no text of a third party. A client raises it for what the server answered.
    """

    def __init__(self, code: Code, message: str, *, refused: bool = False) -> None:
        """``refused``: somebody who may decide said no, as opposed to a failure on the way."""
        if code is Code.OK:
            raise ValueError("a StatusError needs a code other than OK")
        self.code = code
        self.message = message
        self.refused = refused
        super().__init__(f"{code.name}: {message}")
