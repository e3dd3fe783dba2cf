"""An event log as a story: each entry, and the value its register had after it.

Joins the boot log and the agent's events, in the binary form of today or the older text form, and
compares one story with another. Which event is at fault for a wrong register cannot be known from
hashes alone: only a reference log tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from tdx.aael import TextLog, parse_text_log
from tdx.errors import EventLogError
from tdx.event_description import Covers, EventDescription, describe_event, printable
from tdx.eventlog import EV_NO_ACTION, Event, parse_event_log, parse_events
from tdx.replay import REGISTERS, START, Replay, rtmr_of

RTMRS: Final = range(4)
AGENT_RTMR: Final = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """``rtmr`` is None for register 0, which is MRTD and measured before any log."""

    number: int  # from 1, over the whole log
    rtmr: int | None
    digest: bytes | None  # SHA-384, or what stands for it in the text form
    value: bytes | None  # of the register, after this entry
    description: EventDescription


@dataclass(frozen=True, slots=True)
class LogHistory:
    """``problem`` says why the log cannot be replayed, or is empty.

    ``whole`` is False for the agent's own file: it says nothing of registers without entries.
    """

    entries: tuple[Entry, ...]
    values: tuple[bytes, bytes, bytes, bytes]  # RTMR0 to RTMR3 after all entries
    problem: str
    whole: bool

    def tells(self, rtmr: int) -> bool:
        """Return whether this log decides the value of a register."""
        return self.whole or bool(self.of(rtmr))

    def of(self, rtmr: int) -> tuple[Entry, ...]:
        """Return the entries of one register."""
        return tuple(entry for entry in self.entries if entry.rtmr == rtmr)


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first place where one register's entries differ. None: that log has ended there."""

    rtmr: int
    position: int  # from 1, among the entries of this register
    ours: Entry | None
    reference: Entry | None


def log_history(event_log: bytes | None, agent_log: str | None = None) -> LogHistory:
    """Tell the story of a log. Raises :class:`EventLogError` if it does not parse.

    ``event_log`` is a log with its first record, or bare records as the agent's file holds them;
    ``agent_log`` is the text form. An entry that cannot be replayed is told all the same.
    """
    state = Replay()
    problem = ""
    entries: list[Entry] = []
    whole = _has_first_record(event_log)
    for number, event in enumerate(events_of(event_log), 1):
        rtmr = None if event.register == 0 else rtmr_of(event.register)
        try:
            state.apply(event)
            value = None if event.register == 0 else state.value(event.register)
        except EventLogError as error:
            problem = problem or f"entry {number}: {error.problem}"
            value = None
        entries.append(Entry(number, rtmr, event.digest(), value, describe_event(event)))
    values = [state.value(register) for register in REGISTERS]
    if agent_log is not None:
        text_log = parse_text_log(agent_log)
        if values[AGENT_RTMR] != START:
            problem = problem or "RTMR3 has events in the log and in the agent's text form"
        entries += _text_entries(text_log, len(entries))
        values[AGENT_RTMR] = text_log.value
    first, second, third, fourth = values
    return LogHistory(tuple(entries), (first, second, third, fourth), problem, whole)


def _has_first_record(data: bytes | None) -> bool:
    """A SHA-1 era first record has 20 zero bytes where others have a count and digests."""
    if not data:
        return False
    return int.from_bytes(data[4:8], "little") == EV_NO_ACTION and not any(data[8:28])


def events_of(data: bytes | None) -> Sequence[Event]:
    """Return the events of a log with its first record, or of bare records.

    Raises :class:`EventLogError` if it does not parse.
    """
    if not data:
        return ()
    return parse_event_log(data).events if _has_first_record(data) else parse_events(data)


def _text_entries(log: TextLog, told: int) -> Iterator[Entry]:
    values = log.replay()
    for number, (line, value) in enumerate(zip(log.lines, values, strict=True), told + 1):
        words = "start of the agent's log" if line.event is None else f"guest event: {line.event}"
        details = {} if line.event is None else {
            "domain": printable(line.event.domain),
            "operation": printable(line.event.operation),
            "content": printable(line.event.content, 4096),
        }  # fmt: skip
        description = EventDescription(
            "AAEL text", printable(words), Covers.DATA, digest_holds=None, details=details
        )
        yield Entry(number, AGENT_RTMR, line.digest, value, description)


def divergences(ours: LogHistory, reference: LogHistory) -> tuple[Divergence, ...]:
    """Return the first difference of each register that has one, earliest in our log first."""
    found = [d for rtmr in RTMRS if (d := _divergence(rtmr, ours, reference)) is not None]
    last = len(ours.entries) + 1
    return tuple(sorted(found, key=lambda d: last if d.ours is None else d.ours.number))


def _divergence(rtmr: int, ours: LogHistory, reference: LogHistory) -> Divergence | None:
    pairs = zip_longest(ours.of(rtmr), reference.of(rtmr))
    for position, (mine, other) in enumerate(pairs, 1):
        if mine is None or other is None or mine.digest != other.digest:
            return Divergence(rtmr, position, mine, other)
    return None
