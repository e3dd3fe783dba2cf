"""An in-memory report directory: a small second implementation in the kernel's terms.

It knows nothing of the code under test. Faults are set in the words of the interface: an errno
for the next calls of an operation, another blob, a rival's store, a host that does not answer.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

INBLOB_LIMIT = 64
MODES = {"inblob": "w", "outblob": "r", "generation": "r", "provider": "r"}
# What the provider of AMD SEV-SNP has besides; texts that are stored count as a write.
LEVEL_MODES = {"auxblob": "r", "manifestblob": "r", "privlevel": "w", "privlevel_floor": "r"}
FLOOR, HIGHEST = 1, 3
PEM = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n" * 3


def formed_quote(report_data: bytes, rtmrs: tuple[bytes, ...] = (bytes(48),) * 4) -> bytes:
    """Return a quote v4 of right form with zero signatures: a parser takes it, no verifier."""
    header = (4).to_bytes(2, "little") + (2).to_bytes(2, "little") + (0x81).to_bytes(4, "little")
    header += bytes(4) + bytes.fromhex("939a7233f79c4ca9940a0db3957f0607") + bytes(20)
    body = bytes(328) + b"".join(rtmrs) + report_data
    chain = PEM.encode() + b"\0"
    inner = bytes(384) + bytes(64) + (32).to_bytes(2, "little") + bytes(32)
    inner += (5).to_bytes(2, "little") + len(chain).to_bytes(4, "little") + chain
    section = bytes(128) + (6).to_bytes(2, "little") + len(inner).to_bytes(4, "little") + inner
    return header + body + len(section).to_bytes(4, "little") + section


@dataclass
class Entry:
    inblob: bytes = b""
    generation: int = 0
    cached: tuple[int, bytes] | None = None


@dataclass
class FakeTsm:
    """``tsm/report`` with a provider that answers by ``answer(inblob)``."""

    provider: bytes = b"tdx_guest\n"
    answer: Callable[[bytes], bytes] = formed_quote
    table: dict[str, Entry] = field(default_factory=dict)
    errnos: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # Runs in the reading thread, before a quote is made: rival writers, slow hosts.
    making: Callable[[str, Entry], None] = lambda _name, _entry: None
    generation_text: Callable[[int], bytes] = lambda value: b"%d\n" % value
    quotes_made: int = 0
    levels: bool = False  # whether the provider has privilege levels and certificates

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.reading = threading.Event()
        self.at_once = 0
        self.most_at_once = 0

    def fail(self, operation: str, code: int, times: int = 1) -> None:
        """Answer the next ``times`` calls of an operation with an errno."""
        self.errnos[operation] += [code] * times

    def _count(self, operation: str) -> None:
        with self.lock:
            self.calls[operation] += 1
            if self.errnos[operation]:
                self._raise(self.errnos[operation].pop(0))

    @staticmethod
    def _raise(code: int) -> None:
        raise OSError(code, os.strerror(code))

    def _entry(self, name: str) -> Entry:
        if name not in self.table:
            self._raise(errno.ENOENT)
        return self.table[name]

    def mkdir(self, entry: str) -> None:
        self._count("mkdir")
        if len(os.fsencode(entry)) > 255:
            self._raise(errno.ENAMETOOLONG)
        if entry in self.table:
            self._raise(errno.EEXIST)
        self.table[entry] = Entry()

    def rmdir(self, entry: str) -> None:
        self._count("rmdir")
        self._entry(entry)
        del self.table[entry]

    def entries(self) -> list[str]:
        self._count("entries")
        return list(self.table)

    def write(self, entry: str, attribute: str, content: bytes) -> int:
        self._count(f"write {attribute}")
        state = self._open(entry, attribute, "w")
        if attribute == "privlevel":
            if not (content.strip().isdigit() and FLOOR <= int(content) <= HIGHEST):
                self._raise(errno.EINVAL)
            state.generation += 1
            return len(content)
        # A write past the limit is refused, and the close then stores what was taken: nothing.
        state.inblob = content if len(content) <= INBLOB_LIMIT else b""
        state.generation += 1
        if len(content) > INBLOB_LIMIT:
            self._raise(errno.EFBIG)
        return len(content)

    def read(self, entry: str, attribute: str, limit: int) -> bytes:
        self._count(f"read {attribute}")
        state = self._open(entry, attribute, "r")
        if attribute == "provider":
            content = self.provider
        elif attribute == "generation":
            content = self.generation_text(state.generation)
        elif attribute == "privlevel_floor":
            content = b"%d\n" % FLOOR
        elif attribute in {"auxblob", "manifestblob"}:
            self._quote(entry, state)
            content = f"{attribute} of ".encode() + state.inblob
        else:
            content = self._quote(entry, state)
        if len(content) > limit:
            self._raise(errno.EFBIG)
        return content

    def describe(self, entry: str, attribute: str = "") -> str:
        return "/".join(part for part in ("/fake/tsm/report", entry, attribute) if part)

    def _open(self, entry: str, attribute: str, direction: str) -> Entry:
        state = self._entry(entry)
        modes = MODES | LEVEL_MODES if self.levels else MODES
        if attribute not in modes:
            self._raise(errno.ENOENT)
        if modes[attribute] != direction:
            self._raise(errno.EACCES)
        return state

    def _quote(self, name: str, entry: Entry) -> bytes:
        if not entry.inblob:
            self._raise(errno.EINVAL)
        if entry.cached and entry.cached[0] == entry.generation:
            return entry.cached[1]
        if len(entry.inblob) != INBLOB_LIMIT:
            self._raise(errno.EINVAL)
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.reading.set()
            made_for = entry.inblob
            self.making(name, entry)
            blob = self.answer(made_for)
        finally:
            with self.lock:
                self.at_once -= 1
        entry.cached = (entry.generation, blob)
        self.quotes_made += 1
        return blob
