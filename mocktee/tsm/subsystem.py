"""The rules of the kernel's TSM report subsystem, without any file system.

Follows Linux drivers/virt/coco/guest/report.c and Documentation/ABI/testing/configfs-tsm-report:
entries, generations, the cached quote, one lock for the whole subsystem that is held while a
quote is made. Errors are errno values (:class:`SyscallError`).
"""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from mocktee.errors import SyscallError
from mocktee.tsm.faults import FaultKind, FaultQueue
from mocktee.tsm.profile import KernelProfile
from mocktee.tsm.snp import CERTIFICATES, MANIFEST
from mocktee.tsm.texts import check_guid, level_from, unsigned

INBLOB_MAX: Final = 64  # bytes, TSM_REPORT_INBLOB_MAX
GENERATION_MODULUS: Final = 1 << 64
MKDIR_REFUSALS: Final = {
    FaultKind.NO_PROVIDER: errno.ENXIO,
    FaultKind.NO_MEMORY: errno.ENOMEM,
    FaultKind.NO_SPACE: errno.ENOSPC,
}


class Provider(Protocol):
    """The TEE behind the interface: one per machine."""

    @property
    def name(self) -> str:
        """What ``provider`` shows."""

    @property
    def levels(self) -> bool:
        """Whether it has privilege levels, and with them certificates and services."""

    @property
    def floor(self) -> int:
        """The lowest level that may be asked for."""

    @property
    def profile(self) -> KernelProfile:
        """The kernel that is played."""

    @property
    def quotes_made(self) -> int:
        """How many quotes were made."""

    async def new_quote(self, inblob: bytes, entry: bytes = b"", level: int = 0) -> bytes:
        """Make one. Raises :class:`SyscallError`."""

    def stop(self) -> None:
        """End waits in progress."""


@dataclass(slots=True, eq=False)
class ReportEntry:
    """One directory below ``report``, with callbacks counted so that removal can wait for them."""

    name: bytes
    inblob: bytes = b""
    level: int = 0
    outblob: bytes | None = None
    write_generation: int = 0
    read_generation: int = 0
    dead: bool = False
    _callbacks: int = 0
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def callback(self) -> AsyncIterator[None]:
        """Hold off removal for the duration of a callback; ENOENT once removed."""
        if self.dead:
            raise SyscallError(errno.ENOENT)
        self._callbacks += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._callbacks -= 1
            if not self._callbacks:
                self._idle.set()

    async def retire(self) -> None:
        """Wait until no callback is in flight, then refuse all later ones."""
        while self._callbacks:
            await self._idle.wait()
        self.dead = True

    def advance(self) -> None:
        """Count one successful store."""
        if self.write_generation == (self.read_generation - 1) % GENERATION_MODULUS:
            raise SyscallError(errno.EBUSY)
        self.write_generation = (self.write_generation + 1) % GENERATION_MODULUS


class ReportSubsystem:
    """All entries and the lock over them. Every method may wait for a quote in progress."""

    def __init__(self, provider: Provider, faults: FaultQueue) -> None:
        self.provider = provider
        self.faults = faults
        self.entries: dict[bytes, ReportEntry] = {}
        self._lock = asyncio.Lock()
        self._late: set[asyncio.Task[None]] = set()
        # Tells whoever shows the entries that one went without a call to remove_entry.
        self.on_removal: Callable[[bytes], None] = lambda _name: None

    async def make_entry(self, name: bytes) -> ReportEntry:
        """mkdir: EEXIST, ENXIO without a provider."""
        async with self._lock:
            if name in self.entries or self.faults.take(FaultKind.ENTRY_EXISTS, entry=name):
                raise SyscallError(errno.EEXIST)
            refusal = self.faults.take(*MKDIR_REFUSALS, entry=name)
            if refusal:
                raise SyscallError(MKDIR_REFUSALS[refusal.kind])
            entry = self.entries[name] = ReportEntry(name, level=self.provider.floor)
            return entry

    async def remove_entry(self, name: bytes) -> None:
        """rmdir: waits for callbacks of this entry only, not for the subsystem lock."""
        entry = self.entries.get(name)
        if entry is None:
            raise SyscallError(errno.ENOENT)
        await entry.retire()
        self.entries.pop(name, None)

    async def store_inblob(self, entry: ReportEntry, data: bytes) -> None:
        """Any length up to 64, also none; only a quote read judges it."""
        if late := self.faults.take(FaultKind.STORE_LATE, entry=entry.name):
            # Another process still held the file open; this close did not store yet.
            task = asyncio.create_task(self._store_later(entry, data, late.seconds))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return
        await self._store(entry, data)

    async def _store_later(self, entry: ReportEntry, data: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(SyscallError):  # an entry that is gone drops the store
            await self._store(entry, data)

    async def _store(self, entry: ReportEntry, data: bytes) -> None:
        async with entry.callback(), self._lock:
            if not self.faults.take(FaultKind.GENERATION_STUCK, entry=entry.name):
                entry.advance()
            entry.inblob = data
            if self.faults.take(FaultKind.GENERATION_JUMP, entry=entry.name):
                entry.advance()

    async def store_text(self, entry: ReportEntry, attribute: str, text: bytes) -> None:
        """One write to ``privlevel`` or ``service_*``. A bad GUID fails after it has counted."""
        async with entry.callback(), self._lock:
            if attribute == "privlevel":
                level = level_from(text, self.provider.floor)
                entry.advance()
                entry.level = level
            elif attribute == "service_guid":
                entry.advance()
                check_guid(text)
            else:
                if attribute == "service_manifest_version":
                    unsigned(text)
                entry.advance()

    async def read_auxblob(self, entry: ReportEntry) -> bytes:
        """Certificates come with a report, so reading them makes one."""
        await self.read_outblob(entry)
        return CERTIFICATES

    async def read_manifestblob(self, entry: ReportEntry) -> bytes:
        await self.read_outblob(entry)
        return MANIFEST

    async def show_floor(self, entry: ReportEntry) -> bytes:
        async with entry.callback(), self._lock:
            return b"%d\n" % self.provider.floor

    async def read_outblob(self, entry: ReportEntry) -> bytes:
        """The quote for the current generation, made if there is none yet.

        A failure frees the old quote and leaves the counters, so the next read tries again.
        """
        async with entry.callback(), self._lock:
            if not entry.inblob:
                raise SyscallError(errno.EINVAL)
            if entry.outblob is not None and entry.read_generation == entry.write_generation:
                return entry.outblob
            if self.faults.take(FaultKind.NO_PROVIDER, entry=entry.name):
                raise SyscallError(errno.ENXIO)
            if self.faults.take(FaultKind.ENTRY_REMOVED, entry=entry.name):
                self._remove_by_others(entry)
                raise SyscallError(errno.ENOENT)
            if self.faults.take(FaultKind.GENERATION_RACE, entry=entry.name):
                entry.advance()
                entry.inblob = secrets.token_bytes(INBLOB_MAX)
            entry.outblob = None
            quote = await self.provider.new_quote(entry.inblob, entry.name, entry.level)
            entry.outblob = quote
            entry.read_generation = entry.write_generation
            return quote

    def _remove_by_others(self, entry: ReportEntry) -> None:
        self.entries.pop(entry.name, None)
        entry.dead = True
        self.on_removal(entry.name)

    async def show_generation(self, entry: ReportEntry) -> bytes:
        async with entry.callback(), self._lock:
            if self.faults.take(FaultKind.GENERATION_TEXT, entry=entry.name):
                return b"many\n"
            return b"%d\n" % entry.write_generation

    async def show_provider(self, entry: ReportEntry) -> bytes:
        async with entry.callback(), self._lock:
            if self.faults.take(FaultKind.NO_PROVIDER, entry=entry.name):
                raise SyscallError(errno.ENXIO)
            if self.faults.take(FaultKind.BARE_PROVIDER, entry=entry.name):
                return self.provider.name.encode()
            other = self.faults.take(FaultKind.WRONG_PROVIDER, entry=entry.name)
            return (other.provider if other else self.provider.name).encode() + b"\n"
