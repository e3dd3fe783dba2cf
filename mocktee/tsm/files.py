"""Open files of the mock: what read, write and close mean for each kind of attribute.

Follows Linux fs/configfs/file.c (text and binary attributes), fs/sysfs/file.c and
drivers/virt/coco/guest/tsm-mr.c (measurement registers). Each open gets its own object; which
direction it was opened in has been judged before.
"""

# ruff: noqa: ARG002 (one signature for all kinds; not every kind looks at the position)

from __future__ import annotations

import errno
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from mocktee.bootlog import DIGEST_BYTES
from mocktee.errors import SyscallError
from mocktee.td import TdState
from mocktee.tsm.faults import FaultKind, FaultQueue
from mocktee.tsm.subsystem import INBLOB_MAX, ReportEntry, ReportSubsystem

TEXT_MAX: Final = 4095  # bytes of one write to a text attribute


class OpenFile:
    """One open file description; a kind overrides what its direction allows.

    The kernel never sends a read or write against the direction of the open, so EBADF stands for
    "cannot happen". Errors are :class:`SyscallError`.
    """

    async def read(self, offset: int, size: int) -> bytes:
        raise SyscallError(errno.EBADF)

    async def write(self, offset: int, data: bytes) -> int:
        raise SyscallError(errno.EBADF)

    async def closed(self) -> None:
        """A descriptor of this file was closed; called once per close, must not fail."""
        return


class TextFile(OpenFile):
    """A text attribute: shown once per open file, later reads come from the same page."""

    def __init__(self, entry: ReportEntry, show: Callable[[ReportEntry], Awaitable[bytes]]) -> None:
        self._entry = entry
        self._show = show
        self._page: bytes | None = None

    async def read(self, offset: int, size: int) -> bytes:
        if self._page is None:
            self._page = await self._show(self._entry)
        return self._page[offset : offset + size]


class InblobFile(OpenFile):
    """Collects at most 64 bytes and stores them when it is closed.

    The kernel stores on the last close; FUSE tells of every close, so the first one after a write
    stores here and later ones do nothing.
    """

    def __init__(self, entry: ReportEntry, subsystem: ReportSubsystem) -> None:
        self._entry = entry
        self._subsystem = subsystem
        self._buffer = bytearray()
        self._dirty = False

    async def write(self, offset: int, data: bytes) -> int:
        """Append. Past 64 bytes nothing is copied, yet the file counts as written."""
        if self._entry.dead:
            raise SyscallError(errno.ENOENT)
        self._dirty = True
        if len(self._buffer) + len(data) > INBLOB_MAX:
            raise SyscallError(errno.EFBIG)
        self._buffer += data
        return len(data)

    async def closed(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        try:
            await self._subsystem.store_inblob(self._entry, bytes(self._buffer))
        except SyscallError:
            return  # the kernel drops errors of a store at close, and the store if rmdir came first


class StoredText(OpenFile):
    """A text attribute that is stored: each write is one store, and its error comes from write."""

    def __init__(self, entry: ReportEntry, attribute: str, subsystem: ReportSubsystem) -> None:
        self._entry = entry
        self._attribute = attribute
        self._subsystem = subsystem

    async def write(self, offset: int, data: bytes) -> int:
        taken = data[:TEXT_MAX]
        await self._subsystem.store_text(self._entry, self._attribute, taken)
        return len(taken)


class BlobFile(OpenFile):
    """Fills at its first read and then serves that snapshot: the quote and what comes with it."""

    def __init__(
        self, entry: ReportEntry, read: Callable[[ReportEntry], Awaitable[bytes]], limit: int
    ) -> None:
        self._entry = entry
        self._read = read
        self._limit = limit
        self._snapshot = b""

    async def read(self, offset: int, size: int) -> bytes:
        if not self._snapshot:  # an empty quote is asked for again, as the kernel does
            content = await self._read(self._entry)
            if len(content) > self._limit:
                raise SyscallError(errno.EFBIG)
            self._snapshot = content
        return self._snapshot[offset : offset + size]


class RegisterFile(OpenFile):
    """A measurement register: 48 raw bytes; a write of 48 at offset 0 extends an RTMR."""

    def __init__(self, td: TdState, name: str, faults: FaultQueue) -> None:
        self._td = td
        self._name = name
        self._faults = faults

    async def read(self, offset: int, size: int) -> bytes:
        return self._td.registers()[self._name][offset : offset + size]

    async def write(self, offset: int, data: bytes) -> int:
        """sysfs clips to the attribute's size first, then the driver demands all of it."""
        if offset >= DIGEST_BYTES:
            raise SyscallError(errno.EFBIG)
        clipped = data[: DIGEST_BYTES - offset]
        if offset or len(clipped) != DIGEST_BYTES:
            raise SyscallError(errno.EINVAL)
        if self._faults.take(FaultKind.REGISTER_BUSY):
            raise SyscallError(errno.EBUSY)
        if short := self._faults.take(FaultKind.SHORT_WRITE):
            return min(short.length, DIGEST_BYTES - 1)
        rtmr = int(self._name.removeprefix("rtmr"))
        if self._faults.take(FaultKind.FOREIGN_EXTEND):
            self._td.extend(rtmr, secrets.token_bytes(DIGEST_BYTES))
        for _ in range(self._times()):
            self._td.extend(rtmr, clipped)
        return DIGEST_BYTES

    def _times(self) -> int:
        if self._faults.take(FaultKind.EXTEND_LOST):
            return 0
        return 2 if self._faults.take(FaultKind.EXTEND_TWICE) else 1


class FixedFile(OpenFile):
    """Bytes that never change, such as the boot event log."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]
