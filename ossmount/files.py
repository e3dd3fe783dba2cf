"""Open files: handle numbers, close-to-open, and the rules of the open flags."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, replace

from ossmount.errors import FileError, OssMountError
from ossmount.memory import MemoryBudget
from ossmount.objects import ObjectVersion
from ossmount.openfile import Handle, OpenFile
from ossmount.readahead import ReadPool
from ossmount.store import Backend, InodeStore
from ossmount.tree import Inode
from secrecy.journal import get_logger

log = get_logger("ossmount")


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer to an open: the handle, and what the kernel may go on believing."""

    number: int
    keep_pages: bool
    keep_attributes: bool


class FileTable:
    """The files that are open now."""

    def __init__(
        self, backend: Backend, *, pool: ReadPool, scratch: MemoryBudget, read_only: bool
    ) -> None:
        self._backend = backend
        self._pool = pool
        self._scratch = scratch
        self._read_only = read_only
        self._handles: dict[int, tuple[Handle, Inode]] = {}
        self._files: dict[int, OpenFile] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._handles)

    def file(self, inode: Inode) -> OpenFile | None:
        """Return the open file of an inode, if it is open."""
        return self._files.get(inode.number)

    async def open(self, inode: Inode, flags: int) -> Opened:
        """Open an existing file.

        Close-to-open: the store is asked, whatever is cached. Raises EISDIR, ENOENT, EROFS or an
        :class:`~ossmount.errors.OssError`.
        """
        if inode.is_directory:
            raise FileError(errno.EISDIR, "open")
        writable = flags & os.O_ACCMODE != os.O_RDONLY
        if writable and self._read_only:
            raise FileError(errno.EROFS, "open")
        shown = (inode.version, inode.stored)
        present = self._files.get(inode.number)
        if present is None or not present.dirty:
            await self._refresh(inode)
        keep = inode.version is not None and inode.cached_etag == inode.version.etag
        if inode.version is not None:
            inode.cached_etag = inode.version.etag
        number, handle = self._add(inode, writable=writable, base=inode.version)
        handle.append = bool(flags & os.O_APPEND)
        if flags & os.O_TRUNC and writable:
            try:
                self._note_change(inode)
                await handle.file.truncate(0)
            except OssMountError:
                await self.release(number)
                raise
        # A listing shows no metadata; what HEAD has just told must replace it in the kernel.
        return Opened(number, keep, shown == (inode.version, inode.stored))

    async def _refresh(self, inode: Inode) -> None:
        if inode.removed:
            raise FileError(errno.ENOENT, "open")
        head = await self._backend.bucket.head(self._backend.tree.key(inode))
        if head is None:
            raise FileError(errno.ENOENT, "open")
        inode.see(head.version, head.stored)
        self._backend.freshen(inode)

    def _add(
        self, inode: Inode, *, writable: bool, base: ObjectVersion | None
    ) -> tuple[int, Handle]:
        file = self._files.get(inode.number)
        if file is None:
            file = OpenFile(
                InodeStore(self._backend, inode), base, pool=self._pool, scratch=self._scratch
            )
            self._files[inode.number] = file
            inode.opened = file
        else:
            file.observe(base)
        handle = Handle(file, writable, base)
        file.handles.add(handle)
        self._last += 1
        self._handles[self._last] = (handle, inode)
        return self._last, handle

    async def create(self, inode: Inode, flags: int) -> int:
        """Open a file that does not exist yet. With O_EXCL the store decides who made it.

        Raises EEXIST (from the store) or EROFS.
        """
        if self._read_only:
            raise FileError(errno.EROFS, "create")
        self._note_change(inode)
        version: ObjectVersion | None = None
        if flags & os.O_EXCL:
            store = InodeStore(self._backend, inode)
            version = await store.put_new()
            await store.committed(version, streamed=False)
        number, handle = self._add(inode, writable=True, base=version)
        if version is None:
            await handle.file.truncate(0)
        return number

    def _find(self, number: int) -> tuple[Handle, Inode]:
        try:
            return self._handles[number]
        except KeyError:
            raise FileError(errno.EBADF, "handle") from None

    @staticmethod
    def _note_change(inode: Inode) -> None:
        """A local write sets the time, and whatever time was stored is over."""
        inode.changed_ns = time.time_ns()
        if inode.stored.mtime_ns is not None:
            inode.stored = replace(inode.stored, mtime_ns=None)

    async def read(self, number: int, offset: int, size: int) -> bytes | memoryview:
        """Read through a handle."""
        handle, _ = self._find(number)
        return await handle.file.read(handle, offset, size)

    async def write(self, number: int, offset: int, data: bytes) -> int:
        """Write through a handle; return the number of bytes taken."""
        handle, inode = self._find(number)
        if not handle.writable:
            raise FileError(errno.EBADF, "write")
        if handle.append and offset != handle.file.size:
            # The kernel appends at the size it remembers; another client has moved the end.
            offset = handle.file.size
            inode.cached_etag = ""
        written = await handle.file.write(offset, data)
        self._note_change(inode)
        return written

    async def truncate(self, inode: Inode, size: int) -> None:
        """Set the size of a file, open or not. What is not open is stored at once."""
        file = self._files.get(inode.number)
        if file is not None:
            # The time changes first: a part copy takes its metadata from the inode.
            self._note_change(inode)
            await file.truncate(size)
            if not any(handle.writable for handle in file.handles):
                await file.commit()
            return
        number = (await self.open(inode, os.O_WRONLY)).number
        try:
            self._note_change(inode)
            await self._find(number)[0].file.truncate(size)
        finally:
            await self.release(number)

    async def flush(self, number: int) -> None:
        """Store what is unflushed: close() and fsync() report what this raises."""
        handle, _ = self._find(number)
        if handle.writable:
            await handle.file.commit()

    async def release(self, number: int) -> None:
        """End a handle; see :meth:`OpenFile.close` for what it raises."""
        handle, inode = self._find(number)
        del self._handles[number]
        try:
            await handle.file.close(handle)
        finally:
            if not handle.file.handles and self._files.get(inode.number) is handle.file:
                del self._files[inode.number]
                inode.opened = None
                if inode.version is None and not inode.removed:
                    # Never stored: the name ends with the last handle.
                    self._backend.tree.detach(inode)
                self._backend.tree.settle(inode)

    async def shut(self) -> None:
        """Store or give up everything that is open, at the end of the mount."""
        for file in list(self._files.values()):
            await file.shut()

    async def give_up(self) -> None:
        """Forget what could not be stored and abort its uploads."""
        for file in list(self._files.values()):
            await file.drop()
