"""The rules of the kernel's TSM report subsystem, without any file system.

Follows Linux drivers/virt/coco/guest/report.c and Documentation/ABI/testing/configfs-tsm-report:
entries, generations, the cached quote, one lock for the whole subsystem that is held while a
quote is made. Errors are errno values (:class:`SyscallError`).
"""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from mocktee.errors import SyscallError
from mocktee.tsm.faults import FaultKind, FaultQueue
from mocktee.tsm.provider import TdxProvider

INBLOB_MAX: Final = 64  # bytes, TSM_REPORT_INBLOB_MAX
GENERATION_MODULUS: Final = 1 << 64
PROVIDER: Final = "tdx_guest"


@dataclass(slots=True, eq=False)
class ReportEntry:
    """One directory below ``report``, with callbacks counted so that removal can wait for them."""

    name: bytes
    inblob: bytes = b""
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

    def __init__(self, provider: TdxProvider, faults: FaultQueue) -> None:
        self.provider = provider
        self.faults = faults
        self.entries: dict[bytes, ReportEntry] = {}
        self._lock = asyncio.Lock()

    async def make_entry(self, name: bytes) -> ReportEntry:
        """mkdir: EEXIST, ENXIO without a provider."""
        async with self._lock:
            if name in self.entries or self.faults.take(FaultKind.ENTRY_EXISTS):
                raise SyscallError(errno.EEXIST)
            if self.faults.take(FaultKind.NO_PROVIDER):
                raise SyscallError(errno.ENXIO)
            if self.faults.take(FaultKind.NO_MEMORY):
                raise SyscallError(errno.ENOMEM)
            entry = self.entries[name] = ReportEntry(name)
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
        async with entry.callback(), self._lock:
            entry.advance()
            entry.inblob = data

    async def read_outblob(self, entry: ReportEntry) -> bytes:
        """The quote for the current generation, made if there is none yet.

        A failure frees the old quote and leaves the counters, so the next read tries again.
        """
        async with entry.callback(), self._lock:
            if not entry.inblob:
                raise SyscallError(errno.EINVAL)
            if entry.outblob is not None and entry.read_generation == entry.write_generation:
                return entry.outblob
            if self.faults.take(FaultKind.NO_PROVIDER):
                raise SyscallError(errno.ENXIO)
            if self.faults.take(FaultKind.GENERATION_RACE):
                entry.advance()
                entry.inblob = secrets.token_bytes(INBLOB_MAX)
            entry.outblob = None
            quote = await self.provider.new_quote(entry.inblob)
            entry.outblob = quote
            entry.read_generation = entry.write_generation
            return quote

    async def show_generation(self, entry: ReportEntry) -> bytes:
        async with entry.callback(), self._lock:
            return b"%d\n" % entry.write_generation

    async def show_provider(self, entry: ReportEntry) -> bytes:
        async with entry.callback(), self._lock:
            if self.faults.take(FaultKind.NO_PROVIDER):
                raise SyscallError(errno.ENXIO)
            other = self.faults.take(FaultKind.WRONG_PROVIDER)
            return (other.provider if other else PROVIDER).encode() + b"\n"
