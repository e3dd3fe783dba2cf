"""The text form of the attestation agent's event log, as versions 0.10 to 0.14 wrote it.

For reading old logs only; this agent writes the TCG2 form. Line one is
``INIT <algorithm>/<hex of the register>``, each further line ``domain operation content``. Every
line extends the register by its digest, the INIT line too, and the register starts at the value
INIT names. Source: guest-components ``attestation-agent/src/eventlog`` v0.10.0 to v0.14.0,
trustee ``verifier/src/eventlog`` v0.11.0.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from tdx.errors import EventLogError
from tdx.eventlog import MAX_LOG_BYTES

INIT: Final = "INIT"
# The register's size follows from its algorithm; a TD has SHA-384 only.
REGISTER_BYTES: Final = {"sha256": 32, "sha384": 48, "sha512": 64}
MAX_EVENTS: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class TextEvent:
    """One line behind INIT. ``offset`` counts bytes from the log's start."""

    domain: str
    operation: str
    content: str
    line: bytes = field(repr=False)
    offset: int

    def digest(self, algorithm: str) -> bytes:
        """Return the digest that extended the register: of the line without its line feed."""
        return hashlib.new(algorithm, self.line).digest()


@dataclass(frozen=True, slots=True)
class TextLog:
    """A parsed log. ``start`` is the register's value before INIT."""

    algorithm: str
    start: bytes
    init_line: bytes = field(repr=False)
    events: tuple[TextEvent, ...]

    def values(self) -> tuple[bytes, ...]:
        """Return the register after INIT and after each event, in order.

        The last one is what a quote shows if nothing else extended the register.
        """
        lines = (self.init_line, *(event.line for event in self.events))
        values = [self.start]
        for line in lines:
            digest = hashlib.new(self.algorithm, line).digest()
            values.append(hashlib.new(self.algorithm, values[-1] + digest).digest())
        return tuple(values[1:])

    def replay(self) -> bytes:
        """Return the register after the whole log."""
        return self.values()[-1]


def parse_text_log(data: bytes) -> TextLog:
    """Parse a log; the line feed after the last line may be missing.

    Raises :class:`EventLogError` and nothing else on any bytes.
    """
    if len(data) > MAX_LOG_BYTES:
        got = f"{len(data)} bytes"
        raise EventLogError("log", 0, expected=f"<= {MAX_LOG_BYTES} bytes", got=got)
    lines = data.removesuffix(b"\n").split(b"\n")
    if len(lines) > MAX_EVENTS:
        raise EventLogError("log", 0, expected=f"<= {MAX_EVENTS} lines", got=str(len(lines)))
    algorithm, start = _init(lines[0])
    events = []
    offset = len(lines[0]) + 1
    for line in lines[1:]:
        events.append(_event(line, offset))
        offset += len(line) + 1
    return TextLog(algorithm, start, lines[0], tuple(events))


def _init(line: bytes) -> tuple[str, bytes]:
    word, _, rest = _text(line, 0).partition(" ")
    if word != INIT:
        raise EventLogError("first line", 0, expected="INIT algorithm/register", got=word[:32])
    algorithm, _, digits = rest.partition("/")
    size = REGISTER_BYTES.get(algorithm)
    if size is None:
        expected = ", ".join(REGISTER_BYTES)
        raise EventLogError("INIT algorithm", 0, expected=expected, got=algorithm[:32])
    try:
        start = bytes.fromhex(digits)
    except ValueError as error:
        raise EventLogError("INIT register", 0, expected="hex", got="other characters") from error
    if len(start) != size or len(digits) != 2 * size:  # fromhex skips blanks
        got = f"{len(digits)} characters"
        raise EventLogError("INIT register", 0, expected=f"{2 * size} hex digits", got=got)
    return algorithm, start


def _event(line: bytes, offset: int) -> TextEvent:
    parts = _text(line, offset).split(" ", 2)
    if len(parts) != 3 or not parts[0] or not parts[1]:
        expected = "domain, operation and content"
        raise EventLogError("line", offset, expected=expected, got=f"{len(parts)} parts")
    return TextEvent(parts[0], parts[1], parts[2], line, offset)


def _text(line: bytes, offset: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise EventLogError("line", offset, expected="UTF-8 text", got="other bytes") from error
