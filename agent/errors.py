"""What can go wrong in the attestation agent itself; the TEE's and the KBS's errors pass through.

::

    AgentError
      TeeAbsentError           no TEE that this agent serves
      RuntimeDataError         a caller's report data is too long
      TokenKindError           a kind of token that is not served
      KbcUnknownError          a kind of key broker client that is not served
      KbsUnknownError          a session with a key broker that is not configured
      MeasuredEventError       an event that may not be logged as given
      MeasurementLogError      log, intent or register of measured events are not as they must be
        LogDivergedError       a register was extended by somebody else, or an extension is lost
      HandshakeUnrecordedError   receipts are required and cannot be written
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MAX_ECHO: Final = 64  # characters of a caller's text in a message


class AgentError(Exception):
    """Base of all errors of this package. ``hint`` says what an operator can do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.problem = message
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class TeeAbsentError(AgentError):
    """Found no TEE to attest with."""

    def __init__(self, problem: str, *, hint: str) -> None:
        super().__init__(f"detect the TEE: expected Intel TDX, {problem}", hint=hint)


class RuntimeDataError(AgentError):
    """Runtime data does not fit into a quote. The caller hashes; this agent never cuts."""

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        super().__init__(
            f"runtime data: expected at most {limit} bytes, got {size}",
            hint="send a digest of your data, for example SHA-512",
        )


class TokenKindError(AgentError):
    """A token was asked for that this agent does not give."""

    def __init__(self, kind: str, problem: str, *, hint: str) -> None:
        self.kind = kind[:MAX_ECHO]
        super().__init__(f"token of type {self.kind!r}: {problem}", hint=hint)


class KbcUnknownError(AgentError):
    """A request names another kind of key broker client than the one there is."""

    def __init__(self, name: str, known: str) -> None:
        super().__init__(f"key broker client {name[:MAX_ECHO]!r} is not served, only {known}")


class KbsUnknownError(AgentError):
    """A session was asked for with a key broker that this agent is not configured for."""

    def __init__(self, url: str, known: Sequence[str]) -> None:
        super().__init__(
            f"no session with {url[:MAX_ECHO]!r}: the agent is configured for "
            f"{', '.join(known[:8]) or 'no key broker'}",
            hint="add it to token_configs.kbs.urls or token_configs.others",
        )


class MeasuredEventError(AgentError):
    """A field of an event breaks the rules of the event log."""

    def __init__(self, field: str, expected: str, *, got: str) -> None:
        self.field = field
        super().__init__(f"event {field}: expected {expected}, got {got}")


class MeasurementLogError(AgentError):
    """The files of the event log cannot be used."""

    def __init__(self, attempted: str, path: str, problem: str, *, hint: str = "") -> None:
        self.path = path
        super().__init__(f"{attempted} {path}: {problem}", hint=hint)


class LogDivergedError(MeasurementLogError):
    """A register holds neither the value before nor the value after our extension."""

    def __init__(self, path: str, rtmr: int, *, expected: bytes, got: bytes) -> None:
        self.rtmr = rtmr
        super().__init__(
            "record an event in",
            path,
            f"RTMR{rtmr}: expected {expected.hex()}, got {got.hex()}",
            hint="another program extends this register; evidence of this boot will not replay",
        )


class HandshakeUnrecordedError(AgentError):
    """A handshake went well, but its receipt cannot be written, so its session is given up."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"recording a handshake: {reason}",
            hint="receipts.required is set: without a receipt there is no session",
        )
