"""Recompute the run-time measurement registers from events.

An event log proves nothing until its replay equals the registers of an authenticated quote.
Registers count as in the log: 1 to 4, one more than the RTMR. Source: UEFI 2.11 section 38.4.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from tdx.errors import EventLogError
from tdx.eventlog import Event

REGISTERS: Final = (1, 2, 3, 4)  # as the log counts; register 0 is MRTD, measured before boot
START: Final = bytes(48)


def extended(register: bytes, digest: bytes) -> bytes:
    """Return SHA-384(register, digest), what TDG.MR.RTMR.EXTEND makes of a register."""
    return hashlib.sha384(register + digest).digest()


def rtmr_of(register: int) -> int:
    """Return the RTMR of a log register (1 to 4)."""
    return register - 1


class Replay:
    """The four registers while events are applied to them, from 48 zero bytes."""

    def __init__(self) -> None:
        self._values = dict.fromkeys(REGISTERS, START)

    def apply(self, event: Event) -> None:
        """Extend the event's register. Register 0 is skipped: it is no RTMR.

        Raises :class:`EventLogError` on a register above 4, or without a SHA-384 digest.
        """
        if event.register == 0:
            return
        if event.register not in self._values:
            got = str(event.register)
            raise EventLogError("register", 0, expected="0 to 4", got=got)
        digest = event.digest()
        if digest is None:
            raise EventLogError("digests", 0, expected="one SHA-384 digest", got="none")
        self._values[event.register] = extended(self._values[event.register], digest)

    def value(self, register: int) -> bytes:
        """Return the present value of a log register (1 to 4)."""
        return self._values[register]


def replay(events: Iterable[Event]) -> Replay:
    """Apply all events in order."""
    result = Replay()
    for event in events:
        result.apply(event)
    return result


def first_difference(result: Replay, rtmrs: Sequence[bytes]) -> int | None:
    """Return the first RTMR (0 to 3) whose value is not the replayed one, or None.

    Which event is at fault cannot be known from hashes alone.
    """
    for register in REGISTERS:
        if result.value(register) != rtmrs[rtmr_of(register)]:
            return rtmr_of(register)
    return None
