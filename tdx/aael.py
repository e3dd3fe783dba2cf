"""Events of the attestation agent (AAEL), in the binary form of today and the older text form.

Reading only; the agent writes its own log. Source: trustee
kbs/docs/confidential-containers-eventlog.md, guest-components v0.10 to v0.14 for the text form.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from tdx.errors import EventLogError
from tdx.eventlog import EV_EVENT_TAG, MAX_LOG_BYTES, Event
from tdx.replay import START, extended

TAG: Final = 0x4141454C  # reads "LEAA" in the file
# By name in the INIT line. A register takes 48 bytes: shorter digests are filled up with zeros.
ALGORITHMS: Final = {"sha256": 32, "sha384": 48}


@dataclass(frozen=True, slots=True)
class GuestEvent:
    """What a guest program measured: ``domain operation content``."""

    domain: str
    operation: str
    content: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> GuestEvent | None:
        """Return the event of a line, or None if it has less than three parts."""
        parts = text.split(" ", 2)
        return cls(*parts) if len(parts) == 3 and all(parts[:2]) else None

    def __str__(self) -> str:
        return f"{self.domain} {self.operation} {self.content}"


def guest_event(event: Event) -> GuestEvent | None:
    """Return the guest event in a log record, or None if it holds something else."""
    data = event.data
    if event.event_type != EV_EVENT_TAG or int.from_bytes(data[:4], "little") != TAG:
        return None
    if int.from_bytes(data[4:8], "little") != len(data) - 8:
        return None
    try:
        return GuestEvent.parse(data[8:].decode())
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of the text form, without its line feed. INIT lines have no event."""

    text: str = field(repr=False)
    digest: bytes
    event: GuestEvent | None


@dataclass(frozen=True, slots=True)
class TextLog:
    algorithm: str
    start: bytes  # the register before the first line, 48 bytes
    lines: tuple[TextLine, ...]

    def replay(self) -> tuple[bytes, ...]:
        """Return RTMR3 after each line."""
        values, value = [], self.start
        for line in self.lines:
            value = extended(value, line.digest)
            values.append(value)
        return tuple(values)

    @property
    def value(self) -> bytes:
        """RTMR3 after the last line."""
        return self.replay()[-1] if self.lines else self.start


def parse_text_log(text: str) -> TextLog:
    """Parse the text form: an ``INIT algorithm/hex`` line, then events.

    Raises :class:`EventLogError`, and nothing else; offsets count lines.
    """
    if len(text) > MAX_LOG_BYTES:
        expected = f"<= {MAX_LOG_BYTES} characters"
        raise EventLogError("text log", 0, expected=expected, got=str(len(text)))
    lines = text.removesuffix("\n").split("\n")
    algorithm, start = _init(lines[0])
    parsed = [_line(lines[0], algorithm, None)]
    for number, line in enumerate(lines[1:], 1):
        event = GuestEvent.parse(line)
        if event is None:
            raise EventLogError("line", number, expected="domain operation content", got="other")
        parsed.append(_line(line, algorithm, event))
    return TextLog(algorithm, start, tuple(parsed))


def _init(line: str) -> tuple[str, bytes]:
    word, _, rest = line.partition(" ")
    algorithm, _, value = rest.partition("/")
    if word != "INIT" or algorithm not in ALGORITHMS:
        expected = "INIT sha256/hex or INIT sha384/hex"
        raise EventLogError("first line", 0, expected=expected, got=line[:40])
    try:
        start = bytes.fromhex(value)
    except ValueError as error:
        raise EventLogError("first line", 0, expected="a hex value", got="other text") from error
    if len(start) > len(START):
        raise EventLogError("first line", 0, expected="<= 48 bytes", got=str(len(start)))
    return algorithm, start.ljust(len(START), b"\0")


def _line(text: str, algorithm: str, event: GuestEvent | None) -> TextLine:
    encoded = text.encode(errors="surrogateescape")
    digest = hashlib.new(algorithm, encoded).digest().ljust(len(START), b"\0")
    return TextLine(text, digest, event)
