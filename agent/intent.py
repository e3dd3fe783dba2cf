"""The write-ahead intent: what is about to happen to a register and to the log. No I/O.

It names the register itself, so that recovery extends the register that the event was meant for,
whatever the default is by then.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal

import msgspec

from tdx.errors import EventLogError
from tdx.eventlog import Event, encode_event, parse_events
from tdx.replay import extended, rtmr_of

MAX_INTENT_BYTES: Final = 256 * 1024  # a record of 64 KiB and base64 around it

Rtmr = Annotated[int, msgspec.Meta(ge=0, le=3)]
RegisterValue = Annotated[bytes, msgspec.Meta(min_length=48, max_length=48)]


class _IntentFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    rtmr: Rtmr
    before: RegisterValue
    after: RegisterValue
    offset: Annotated[int, msgspec.Meta(ge=0)]
    record: bytes


@dataclass(frozen=True, slots=True)
class Intent:
    """Extend RTMR ``rtmr`` from ``before`` to ``after``, then write ``record`` at ``offset``."""

    rtmr: int
    before: bytes = field(repr=False)
    after: bytes = field(repr=False)
    offset: int  # bytes, in the log file
    record: bytes = field(repr=False)

    @classmethod
    def planned(cls, record: Event, before: bytes, offset: int) -> Intent:
        """Return the intent for a record, given the present register value and log size."""
        intent = cls(rtmr_of(record.register), before, before, offset, encode_event(record))
        return replace(intent, after=extended(before, intent.digest))

    @property
    def digest(self) -> bytes:
        """The digest that the register is extended by: the one in the record."""
        digest = parse_events(self.record)[0].digest()
        if digest is None:
            raise ValueError("expected a record with a SHA-384 digest")
        return digest

    def encode(self) -> bytes:
        return msgspec.json.encode(
            _IntentFile(1, self.rtmr, self.before, self.after, self.offset, self.record)
        )

    @classmethod
    def decode(cls, data: bytes) -> Intent:
        """Raises ``ValueError`` on anything that :meth:`encode` does not write."""
        try:
            stored = msgspec.json.decode(data, type=_IntentFile)
            events = parse_events(stored.record)
        except (msgspec.DecodeError, UnicodeDecodeError, EventLogError) as error:
            raise ValueError(str(error)) from error
        if len(events) != 1 or events[0].register != stored.rtmr + 1 or not events[0].digest():
            raise ValueError("expected the record of one event of the intent's register")
        return cls(stored.rtmr, stored.before, stored.after, stored.offset, stored.record)
