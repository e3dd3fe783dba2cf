"""The faults the mock TSM can be told to play, and the queue they wait in.

Owns the strict, bounded reading of control requests about faults. Where a fault bites is decided
by the code that asks for it; a fault with a count is used up by that many bites.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from mocktee.errors import FaultSpecError

MAX_FAULTS: Final = 64
MAX_COUNT: Final = 1_000_000
MAX_SECONDS: Final = 60.0
MAX_LENGTH: Final = 1 << 20
MAX_PROVIDER: Final = 64


class FaultKind(StrEnum):
    """What is played. The comment says where it bites."""

    NO_PROVIDER = "no_provider"  # ENXIO from mkdir, provider, a new quote
    WRONG_PROVIDER = "wrong_provider"  # provider shows another name
    ENTRY_EXISTS = "entry_exists"  # EEXIST from mkdir
    NO_MEMORY = "no_memory"  # ENOMEM from mkdir
    BUSY = "busy"  # EBUSY from a new quote
    EINTR = "eintr"  # EINTR from a new quote
    TIMEDOUT = "timedout"  # ETIMEDOUT from a new quote
    EIO = "eio"  # EIO from a new quote
    OVERSIZED = "oversized"  # EFBIG from a new quote
    EMPTY = "empty"  # success with nothing, as kernels before the EIO fix
    TRUNCATED = "truncated"  # the first `length` bytes of the quote
    TRAILING = "trailing"  # `length` zero bytes after the quote
    CORRUPT = "corrupt"  # one bit flipped, in the byte at `offset`
    STALE = "stale"  # the previous quote, or somebody else's if there is none
    WRONG_REPORT_DATA = "wrong_report_data"  # soundly signed, other report data
    GENERATION_RACE = "generation_race"  # a rival stores before the quote is made
    DEBUG_TD = "debug_td"  # soundly signed, debug attribute set
    SLOW = "slow"  # `seconds` more for a new quote, together with any other fault
    HOLD = "hold"  # a new quote waits until the faults are replaced or cleared
    REGISTER_BUSY = "register_busy"  # EBUSY from a register write
    EXTEND_LOST = "extend_lost"  # a register write that changes nothing
    EXTEND_TWICE = "extend_twice"  # a register write that extends two times


PARAMETERS: Final[dict[FaultKind, str]] = {
    FaultKind.SLOW: "seconds",
    FaultKind.TRUNCATED: "length",
    FaultKind.TRAILING: "length",
    FaultKind.CORRUPT: "offset",
    FaultKind.WRONG_PROVIDER: "provider",
}


@dataclass(slots=True)
class Fault:
    """One fault and how many more times it bites; ``None`` means until it is cleared."""

    kind: FaultKind
    count: int | None = 1
    seconds: float = 1.0
    length: int = 100
    offset: int = 568  # the report data in a version 4 quote
    provider: str = "sev_guest"

    @classmethod
    def from_json(cls, value: object) -> Fault:
        """Read ``{"kind": ..., "count": ..., <parameter>: ...}``; unknown members are refused."""
        if not isinstance(value, dict):
            raise FaultSpecError("fault", "expected an object")
        members: dict[str, object] = dict(value)
        kind = _kind(members.pop("kind", None))
        fault = cls(kind, _count(members.pop("count", 1)))
        parameter = PARAMETERS.get(kind)
        if parameter is not None and parameter in members:
            fault._set(parameter, members.pop(parameter))
        if members:
            raise FaultSpecError(kind, f"has no member {min(members)[:40]!r}")
        return fault

    def _set(self, parameter: str, value: object) -> None:
        match parameter, value:
            case "seconds", int() | float() if not isinstance(value, bool):
                accepted = 0 <= value <= MAX_SECONDS  # before float(), which overflows
                self.seconds = float(value) if accepted else 0.0
            case "length" | "offset", int() if not isinstance(value, bool):
                setattr(self, parameter, value)
                accepted = 0 <= value <= MAX_LENGTH
            case "provider", str():
                self.provider = value
                accepted = len(value) <= MAX_PROVIDER and value.isprintable()
            case _:
                accepted = False
        if not accepted:
            raise FaultSpecError(self.kind, f"{parameter} is out of range or of a wrong type")

    def to_json(self) -> dict[str, object]:
        """The form :meth:`from_json` reads, with the count that is left."""
        shown: dict[str, object] = {"kind": self.kind.value, "count": self.count}
        if parameter := PARAMETERS.get(self.kind):
            shown[parameter] = getattr(self, parameter)
        return shown


def _kind(value: object) -> FaultKind:
    try:
        return FaultKind(str(value))
    except ValueError as error:
        known = ", ".join(FaultKind)
        raise FaultSpecError("kind", f"{str(value)[:40]!r} is none of {known}") from error


def _count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_COUNT:
        raise FaultSpecError("count", f"expected null or 1 to {MAX_COUNT}")
    return value


@dataclass(slots=True)
class FaultQueue:
    """Faults in the order they were asked for."""

    faults: list[Fault] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def replace(self, value: object) -> None:
        """Take a new list from a control request. On any error the old one stays."""
        if not isinstance(value, list) or len(value) > MAX_FAULTS:
            raise FaultSpecError("faults", f"expected a list of at most {MAX_FAULTS}")
        self.faults = [Fault.from_json(item) for item in value]
        self.release()

    def clear(self) -> None:
        self.faults = []
        self.release()

    def release(self) -> None:
        """Let everything go that :meth:`held` holds."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def held(self) -> None:
        """Wait for the next :meth:`release`."""
        await self._changed.wait()

    def take(self, *kinds: FaultKind) -> Fault | None:
        """The first waiting fault of these kinds, with one bite used up."""
        for fault in self.faults:
            if fault.kind in kinds:
                if fault.count is not None:
                    fault.count -= 1
                    if not fault.count:
                        self.faults.remove(fault)
                return fault
        return None
