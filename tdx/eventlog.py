"""Event log records to frozen values and back: the boot log (CCEL) and records in its form.

Structure only: whether digests fit the registers is decided by replay, and whether an event is
acceptable by a policy elsewhere. Source: TCG PC Client Platform Firmware Profile (TCG_PCR_EVENT,
TCG_PCR_EVENT2) and UEFI 2.11 section 38.4 for the CC forms. All integers are little-endian.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tdx.errors import EventLogError

EV_NO_ACTION: Final = 0x03
EV_EVENT_TAG: Final = 0x06
SHA384: Final = 0x000C
# TCG algorithm registry: digest sizes in bytes.
DIGEST_BYTES: Final[Mapping[int, int]] = {
    0x0004: 20,
    0x000B: 32,
    SHA384: 48,
    0x000D: 64,
    0x0012: 32,
}
MAX_DIGEST_BYTES: Final = 64
MAX_ALGORITHMS: Final = 8
MAX_LOG_BYTES: Final = 1024 * 1024  # the largest log area of known firmware
MARK_BYTES: Final = 8
END_ONES: Final = b"\xff" * MARK_BYTES  # OVMF
END_ZEROS: Final = b"\0" * MARK_BYTES  # td-shim
SPEC_ID_FIXED_BYTES: Final = 28  # signature to number of algorithms


class LogEnd(enum.Enum):
    """How a log ended."""

    ONES = "0xFF mark"
    ZEROS = "zero mark"
    EXACT = "end of data"


@dataclass(frozen=True, slots=True)
class Digest:
    algorithm: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Event:
    """One TCG_PCR_EVENT2 record. ``register`` counts as UEFI CC does: RTMR index plus 1."""

    register: int
    event_type: int
    digests: tuple[Digest, ...]
    data: bytes = field(repr=False)

    def digest(self, algorithm: int = SHA384) -> bytes | None:
        """Return the digest of one algorithm, or None."""
        return next((d.value for d in self.digests if d.algorithm == algorithm), None)


@dataclass(frozen=True, slots=True)
class SpecId:
    """The first record: it names the digest algorithms of all others."""

    register: int
    signature: bytes
    algorithms: Mapping[int, int]  # algorithm to digest size in bytes
    vendor: bytes


@dataclass(frozen=True, slots=True)
class EventLog:
    spec_id: SpecId
    events: tuple[Event, ...]
    used: int  # bytes from the start to the end mark, without it
    end: LogEnd


class _Cursor:
    """Takes fields off the log and refuses to run over its end."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def take(self, name: str, size: int) -> bytes:
        left = len(self.data) - self.at
        if size > left:
            raise EventLogError(name, self.at, expected=f"{size} bytes", got=f"{left} left")
        start, self.at = self.at, self.at + size
        return self.data[start : self.at]

    def number(self, name: str, size: int) -> int:
        return int.from_bytes(self.take(name, size), "little")


def parse_event_log(data: bytes) -> EventLog:
    """Parse a boot log up to its end mark, or to the end of the data if there is none.

    Raises :class:`EventLogError` on a record that runs over the end, a rest of 1 to 7 bytes, an
    algorithm the first record does not name, or more than 1 MiB; nothing else on any bytes.
    """
    if len(data) > MAX_LOG_BYTES:
        got = f"{len(data)} bytes"
        raise EventLogError("log", 0, expected=f"<= {MAX_LOG_BYTES} bytes", got=got)
    cursor = _Cursor(data)
    spec_id = _spec_id(cursor)
    events: list[Event] = []
    end = _end_mark(cursor)
    while end is None:
        events.append(_event(cursor, spec_id.algorithms))
        end = _end_mark(cursor)
    return EventLog(spec_id, tuple(events), cursor.at, end)


def parse_events(data: bytes) -> tuple[Event, ...]:
    """Parse records without a first record or an end mark, as the agent's own log holds them."""
    cursor = _Cursor(data)
    events = []
    while cursor.at < len(data):
        events.append(_event(cursor, DIGEST_BYTES))
    return tuple(events)


def _end_mark(cursor: _Cursor) -> LogEnd | None:
    if cursor.at == len(cursor.data):
        return LogEnd.EXACT
    mark = cursor.data[cursor.at : cursor.at + MARK_BYTES]
    if mark == END_ONES:
        return LogEnd.ONES
    # A record "register 0, type 0" would read the same; none exists.
    return LogEnd.ZEROS if mark == END_ZEROS else None


def _spec_id(cursor: _Cursor) -> SpecId:
    register = cursor.number("register", 4)
    event_type = cursor.number("event type", 4)
    if event_type != EV_NO_ACTION:
        got = hex(event_type)
        raise EventLogError("first record", 4, expected="type EV_NO_ACTION", got=got)
    cursor.take("SHA-1 digest", 20)
    size = cursor.number("event size", 4)
    start = cursor.at
    body = _Cursor(cursor.take("specification id", size))
    try:
        fixed = body.take("specification id", SPEC_ID_FIXED_BYTES)
        count = int.from_bytes(fixed[24:], "little")
        algorithms = _algorithms(body, count)
        vendor = body.take("vendor information", body.number("vendor information size", 1))
    except EventLogError as error:
        # The inner error counts from the record's body; give the place in the log.
        raise EventLogError(
            error.field, start + error.offset, expected=error.expected, got=error.got
        ) from error
    if body.at != size:
        got = f"{size - body.at} bytes more"
        raise EventLogError("specification id", start + body.at, expected="its end", got=got)
    return SpecId(register, fixed[:16], algorithms, vendor)


def _algorithms(body: _Cursor, count: int) -> dict[int, int]:
    if not 1 <= count <= MAX_ALGORITHMS:
        expected = f"1 to {MAX_ALGORITHMS}"
        raise EventLogError("number of algorithms", body.at, expected=expected, got=str(count))
    algorithms: dict[int, int] = {}
    for _ in range(count):
        start = body.at
        algorithm = body.number("algorithm", 2)
        size = body.number("digest size", 2)
        known = DIGEST_BYTES.get(algorithm, size)
        if algorithm in algorithms or size != known or not 1 <= size <= MAX_DIGEST_BYTES:
            got = f"{algorithm:#06x} of {size} bytes"
            raise EventLogError("algorithm", start, expected="each once, of its size", got=got)
        algorithms[algorithm] = size
    return algorithms


def _event(cursor: _Cursor, algorithms: Mapping[int, int]) -> Event:
    register = cursor.number("register", 4)
    event_type = cursor.number("event type", 4)
    start = cursor.at
    count = cursor.number("digest count", 4)
    if count > len(algorithms):
        expected = f"<= {len(algorithms)}"
        raise EventLogError("digest count", start, expected=expected, got=str(count))
    digests: dict[int, Digest] = {}
    for _ in range(count):
        start = cursor.at
        algorithm = cursor.number("digest algorithm", 2)
        if algorithm not in algorithms or algorithm in digests:
            expected = "one of the first record, once"
            raise EventLogError("digest algorithm", start, expected=expected, got=hex(algorithm))
        digests[algorithm] = Digest(algorithm, cursor.take("digest", algorithms[algorithm]))
    data = cursor.take("event data", cursor.number("event size", 4))
    return Event(register, event_type, tuple(digests.values()), data)


def encode_event(event: Event) -> bytes:
    """Return the bytes of one record (TCG_PCR_EVENT2)."""
    parts = [struct.pack("<III", event.register, event.event_type, len(event.digests))]
    parts += [struct.pack("<H", digest.algorithm) + digest.value for digest in event.digests]
    parts += [struct.pack("<I", len(event.data)), event.data]
    return b"".join(parts)


def encode_spec_id(spec_id: SpecId) -> bytes:
    """Return the bytes of a first record for TPM family 2.0, class 0, 8-byte integers."""
    table = b"".join(struct.pack("<HH", *entry) for entry in spec_id.algorithms.items())
    body = b"".join(
        (
            spec_id.signature,
            struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(spec_id.algorithms)),
            table,
            bytes([len(spec_id.vendor)]),
            spec_id.vendor,
        )
    )
    return struct.pack("<II20xI", spec_id.register, EV_NO_ACTION, len(body)) + body
