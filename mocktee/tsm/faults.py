"""The faults the mock TSM can be told to play, and the queue they wait in.

Owns the strict, bounded reading of control requests about faults. Where a fault bites is decided
by the code that asks for it; a fault with a count is used up by that many bites.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from enum import StrEnum
from typing import Final

from mocktee.errors import FaultSpecError
from mocktee.tsm.alterations import CHAINS, LENGTHS, PARTS

MAX_FAULTS: Final = 64
MAX_COUNT: Final = 1_000_000
MAX_SECONDS: Final = 60.0
MAX_LENGTH: Final = 1 << 20
MAX_NAME: Final = 64  # of a provider, or of the start of an entry's name


class FaultKind(StrEnum):
    """What is played. The comment says where it bites."""

    NO_PROVIDER = "no_provider"  # ENXIO from mkdir, provider, a new quote
    WRONG_PROVIDER = "wrong_provider"  # provider shows another name
    ENTRY_EXISTS = "entry_exists"  # EEXIST from mkdir
    NO_MEMORY = "no_memory"  # ENOMEM from mkdir
    NO_SPACE = "no_space"  # ENOSPC from mkdir
    BARE_PROVIDER = "bare_provider"  # provider without its final line feed
    BUSY = "busy"  # EBUSY from a new quote
    EINTR = "eintr"  # EINTR from a new quote
    TIMEDOUT = "timedout"  # ETIMEDOUT from a new quote
    EIO = "eio"  # EIO from a new quote
    OVERSIZED = "oversized"  # EFBIG from a new quote
    HOST_ERROR = "host_error"  # the host reports an error; how it shows is the kernel's choice
    EMPTY = "empty"  # success with nothing, as kernels before the EIO fix
    TRUNCATED = "truncated"  # the first `length` bytes of the quote
    TRAILING = "trailing"  # `length` zero bytes after the quote
    CORRUPT = "corrupt"  # one bit flipped, in the byte at `offset`
    STALE = "stale"  # the previous quote, or somebody else's if there is none
    WRONG_REPORT_DATA = "wrong_report_data"  # soundly signed, other report data
    ZEROS = "zeros"  # `length` zero bytes instead of a quote
    VERSION = "version"  # the number `version` in the quote's first field
    SWAPPED_REPORT_DATA = "swapped_report_data"  # its bytes in reverse order
    LYING_LENGTH = "lying_length"  # the length `field` is off by `delta`
    FLIPPED = "flipped"  # one bit of the signed `part`
    CHAIN = "chain"  # a certificate chain of the form `chain`
    OTHER_TD = "other_td"  # soundly signed, right report data, registers of another TD
    GENERATION_STUCK = "generation_stuck"  # a store that is not counted
    GENERATION_JUMP = "generation_jump"  # a store that is counted twice
    GENERATION_TEXT = "generation_text"  # generation is no number
    STORE_LATE = "store_late"  # the store happens `seconds` after the close
    ENTRY_REMOVED = "entry_removed"  # somebody else removes the entry before the quote is made
    GENERATION_RACE = "generation_race"  # a rival stores before the quote is made
    DEBUG_TD = "debug_td"  # soundly signed, debug attribute set
    SLOW = "slow"  # `seconds` more for a new quote, together with any other fault
    HOLD = "hold"  # a new quote waits until the faults are replaced or cleared
    REGISTER_BUSY = "register_busy"  # EBUSY from a register write
    EXTEND_LOST = "extend_lost"  # a register write that changes nothing
    EXTEND_TWICE = "extend_twice"  # a register write that extends two times
    FOREIGN_EXTEND = "foreign_extend"  # another program extends just before
    SHORT_WRITE = "short_write"  # a register write that takes `length` bytes and does nothing


REGISTER_KINDS: Final = (
    FaultKind.REGISTER_BUSY,
    FaultKind.EXTEND_LOST,
    FaultKind.EXTEND_TWICE,
    FaultKind.FOREIGN_EXTEND,
    FaultKind.SHORT_WRITE,
)
PARAMETERS: Final[dict[FaultKind, tuple[str, ...]]] = {
    FaultKind.SLOW: ("seconds",),
    FaultKind.STORE_LATE: ("seconds",),
    FaultKind.TRUNCATED: ("length",),
    FaultKind.TRAILING: ("length",),
    FaultKind.ZEROS: ("length",),
    FaultKind.SHORT_WRITE: ("length",),
    FaultKind.CORRUPT: ("offset",),
    FaultKind.WRONG_PROVIDER: ("provider",),
    FaultKind.VERSION: ("version",),
    FaultKind.LYING_LENGTH: ("field", "delta"),
    FaultKind.FLIPPED: ("part",),
    FaultKind.CHAIN: ("chain",),
}
# What each parameter may be: numbers in a range, or one of some words.
RANGES: Final[dict[str, tuple[float, float]]] = {
    "seconds": (0, MAX_SECONDS),
    "lasting": (0, MAX_SECONDS),
    "length": (0, MAX_LENGTH),
    "offset": (0, MAX_LENGTH),
    "version": (0, 0xFFFF),
    "delta": (-(1 << 31), 1 << 31),
}
WORDS: Final[dict[str, tuple[str, ...]]] = {
    "field": LENGTHS,
    "part": PARTS,
    "chain": tuple(CHAINS),
}


@dataclass(slots=True)
class Fault:
    """One fault and how many more times it bites; ``None`` means until it is cleared.

    ``entry`` limits it to report entries whose name starts so; ``lasting`` is how many seconds it
    waits for its bites from when it was asked for.
    """

    kind: FaultKind
    count: int | None = 1
    entry: str = ""
    lasting: float | None = None
    seconds: float = 1.0
    length: int = 100
    offset: int = 568  # the report data in a version 4 quote
    provider: str = "sev_guest"
    version: int = 3
    field: str = "section"
    delta: int = 1
    part: str = "body"
    chain: str = "broken"
    asked_at: float = dataclass_field(default_factory=time.monotonic, compare=False)

    @classmethod
    def from_json(cls, value: object) -> Fault:
        """Read ``{"kind": ..., "count": ..., <parameter>: ...}``; unknown members are refused."""
        if not isinstance(value, dict):
            raise FaultSpecError("fault", "expected an object")
        members: dict[str, object] = dict(value)
        kind = _kind(members.pop("kind", None))
        fault = cls(kind, _count(members.pop("count", 1)))
        filters = ("lasting",) if kind in REGISTER_KINDS else ("entry", "lasting")
        for parameter in (*filters, *PARAMETERS.get(kind, ())):
            if parameter in members:
                setattr(fault, parameter, _parameter(kind, parameter, members.pop(parameter)))
        if members:
            raise FaultSpecError(kind, f"has no member {min(members)[:40]!r}")
        return fault

    def bites(self, kinds: tuple[FaultKind, ...], entry: str, now: float) -> bool:
        """Whether it concerns one of ``kinds`` on ``entry`` at this time."""
        in_time = self.lasting is None or now - self.asked_at <= self.lasting
        return self.kind in kinds and entry.startswith(self.entry) and in_time

    def to_json(self) -> dict[str, object]:
        """The form :meth:`from_json` reads, with the count that is left."""
        shown: dict[str, object] = {"kind": self.kind.value, "count": self.count}
        if self.entry:
            shown["entry"] = self.entry
        if self.lasting is not None:
            shown["lasting"] = self.lasting
        return shown | {name: getattr(self, name) for name in PARAMETERS.get(self.kind, ())}


def _parameter(kind: FaultKind, name: str, value: object) -> object:
    """Check one member; numbers are compared before ``float()``, which overflows."""
    accepted = False
    if name in RANGES:
        low, high = RANGES[name]
        whole = name not in {"seconds", "lasting"}
        types = (int,) if whole else (int, float)
        if isinstance(value, types) and not isinstance(value, bool) and low <= value <= high:
            return value if whole else float(value)
    elif name in WORDS:
        accepted = value in WORDS[name]
    elif isinstance(value, str):  # provider, entry
        accepted = len(value) <= MAX_NAME and value.isprintable()
    if not accepted:
        raise FaultSpecError(kind, f"{name} is out of range or of a wrong type")
    return value


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

    faults: list[Fault] = dataclass_field(default_factory=list)
    _changed: asyncio.Event = dataclass_field(default_factory=asyncio.Event)

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

    def take(self, *kinds: FaultKind, entry: bytes = b"") -> Fault | None:
        """The first waiting fault of these kinds that concerns the entry, one bite used up."""
        name, now = entry.decode("utf-8", "replace"), time.monotonic()
        for fault in self.faults:
            if fault.bites(kinds, name, now):
                if fault.count is not None:
                    fault.count -= 1
                    if not fault.count:
                        self.faults.remove(fault)
                return fault
        return None
