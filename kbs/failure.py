"""The last handshake that failed, as a record for whoever explains it.

Holds no secret: what was sent to the KBS is evidence, nonce and public key, all of which the host
and the network saw. Not the error itself, whose traceback would keep the private key alive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from kbs.errors import (
    AttestationRefusedError,
    EvidenceTimeoutError,
    KbsProtocolError,
    KbsRefusedError,
    KbsTimeoutError,
    KbsTlsError,
    KbsUnreachableError,
)


class FailureKind(StrEnum):
    """Who ended the handshake, and so who can help."""

    REFUSED = "refused"  # by the KBS: it judged
    UNREACHABLE = "unreachable"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"  # what answered is no KBS of this protocol
    EVIDENCE = "evidence"  # this guest made none, or another fault in the guest


@dataclass(frozen=True, slots=True)
class HandshakeFailure:
    """``status``, ``problem_type`` and ``detail`` are set for ``REFUSED`` only.

    ``challenge`` is the KBS's, ``attestation`` the body of the refused ``POST /attest``; both are
    empty if it came to none.
    """

    kind: FailureKind
    message: str
    status: int = 0
    problem_type: str = ""
    detail: str = ""
    challenge: bytes = field(default=b"", repr=False)
    attestation: bytes = field(default=b"", repr=False)


def failure_of(error: Exception) -> HandshakeFailure:
    """Return the record of an error that ended a handshake."""
    message = str(error) or type(error).__name__
    if isinstance(error, KbsRefusedError):
        sent = (b"", b"")
        if isinstance(error, AttestationRefusedError):
            sent = (error.challenge, error.attestation)
        answer = (error.status, error.problem_type, error.detail)
        return HandshakeFailure(FailureKind.REFUSED, message, *answer, *sent)
    return HandshakeFailure(_kind(error), message)


def _kind(error: Exception) -> FailureKind:
    match error:
        case EvidenceTimeoutError():
            return FailureKind.EVIDENCE
        case KbsUnreachableError():
            return FailureKind.UNREACHABLE
        case KbsTlsError():
            return FailureKind.TLS
        case KbsTimeoutError():
            return FailureKind.TIMEOUT
        case KbsProtocolError():
            return FailureKind.PROTOCOL
        case _:
            return FailureKind.EVIDENCE
