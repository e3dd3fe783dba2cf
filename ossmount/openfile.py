"""An open file's content: clean, whole in memory, or streaming to the store.

* clean: nothing unflushed; reads go to the pinned version.
* scratch: the whole content in memory, changed anywhere, stored by one PUT when flushed.
* streaming: written in sequence; parts are uploaded while later ones are being written. Begins
  when scratch content outgrows one part, or with a server-side copy of the untouched head when a
  large object is appended to.

A change that streaming cannot take (a jump back) first completes the upload and then continues
from the stored object, in memory if it fits, and with EFBIG and a log line if not.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from ossmount.crc64 import crc64
from ossmount.errors import (
    FileError,
    IntegrityError,
    OssMountError,
    ScratchExhaustedError,
    UploadFailedError,
)
from ossmount.memory import MemoryBudget
from ossmount.objects import ObjectVersion
from ossmount.readahead import ObjectReader, ReadPool
from ossmount.upload import PART, StreamUpload
from secrecy.journal import get_logger

log = get_logger("ossmount")

MIN_HEAD: Final = PART  # an object smaller than one part is read back rather than copied by part


class ContentStore(Protocol):
    """What an open file needs of the store. The key may change under it (rename)."""

    async def get_range(
        self,
        version: ObjectVersion,
        start: int,
        target: memoryview,
        progress: Callable[[int], None] | None = None,
    ) -> None: ...

    async def put(self, content: memoryview) -> ObjectVersion: ...

    def stream(self) -> StreamUpload: ...

    def committed(self, version: ObjectVersion, *, streamed: bool) -> Awaitable[ObjectVersion]:
        """Take note of a stored version; return the one that is there afterwards."""
        ...

    @property
    def digest(self) -> str:
        """What log lines call the file."""
        ...


@dataclass(slots=True, eq=False)
class Handle:
    """One open descriptor of a file."""

    file: OpenFile
    writable: bool
    version: ObjectVersion | None  # pinned at open
    append: bool = False  # opened with O_APPEND
    reader: ObjectReader | None = None


class OpenFile:
    """The content shared by all handles of one inode. Every change happens under one lock."""

    def __init__(
        self,
        store: ContentStore,
        base: ObjectVersion | None,
        *,
        pool: ReadPool,
        scratch: MemoryBudget,
    ) -> None:
        self.base = base
        self.handles: set[Handle] = set()
        self.abandoned = False  # unlinked: nothing is to be stored any more
        self._store = store
        self._pool = pool
        self._budget = scratch
        self._lock = asyncio.Lock()
        self._content: bytearray | None = None
        self._charged = 0
        self._changed = False
        self._random = False
        self._stream: StreamUpload | None = None
        self._lost: OssMountError | None = None

    @property
    def dirty(self) -> bool:
        """Whether there is content that the store does not have."""
        return self._changed or self._stream is not None

    @property
    def size(self) -> int:
        """The size with everything written so far."""
        if self._stream is not None:
            return self._stream.size
        if self._content is not None:
            return len(self._content)
        return self.base.size if self.base else 0

    # -- reading

    async def read(self, handle: Handle, offset: int, size: int) -> bytes | memoryview:
        """Return content as this process sees it. Raises like :meth:`ObjectReader.read`."""
        if self._content is None and self._stream is not None:
            # Parts that left memory cannot be read back before the upload is complete.
            await self.commit()
        if self._content is not None:
            return bytes(memoryview(self._content)[offset : offset + size])
        if handle.version is None:
            return b""
        if handle.reader is None or handle.reader.version is not handle.version:
            former, handle.reader = (
                handle.reader,
                ObjectReader(self._store, handle.version, self._pool),
            )
            if former is not None:
                await former.close()
        return await handle.reader.read(offset, size)

    # -- writing

    async def write(self, offset: int, data: bytes) -> int:
        """Write ``data`` at ``offset``. Raises EFBIG when that needs more memory than allowed,
        and :class:`UploadFailedError` once an upload of this file has failed.
        """
        async with self._lock:
            self._raise_lost()
            try:
                await self._write(offset, data)
            except OssMountError as error:
                if self._stream is not None:
                    # Whatever failed, the parts no longer add up to what was written.
                    await self._lose(error)
                raise
        return len(data)

    async def _write(self, offset: int, data: bytes) -> None:
        if self._stream is not None:
            if offset == self._stream.size:
                await self._stream.append(data)
                return
            await self._commit()
            self._random = True
        if self._content is None:
            if self._can_append(offset):
                await self._stream_from_base(offset)
                await self._write(offset, data)
                return
            await self._load()
        content = self._scratch()
        end = offset + len(data)
        at_end = offset == len(content)
        if at_end and end > PART and not self._random:
            await self._stream_from_scratch()
            await self._write(offset, data)
            return
        self._random = self._random or not at_end
        if not self._grow(end) and at_end:
            await self._stream_from_scratch()
            await self._write(offset, data)
            return
        self._require(end)
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset:end] = data
        self._changed = True

    def _can_append(self, offset: int) -> bool:
        return self.base is not None and offset == self.base.size and offset >= MIN_HEAD

    def _scratch(self) -> bytearray:
        if self._content is None:
            raise RuntimeError("the content is not in memory")
        return self._content

    def _grow(self, size: int) -> bool:
        """Charge scratch memory up to ``size``; return whether the budget allows it."""
        more = size - self._charged
        if more > 0:
            if not self._budget.try_acquire(more):
                return False
            self._charged = size
        return True

    def _require(self, size: int) -> None:
        if self._grow(size):
            return
        error = ScratchExhaustedError(
            errno.EFBIG, "random write", needed=size, allowed=self._budget.total
        )
        log.warning("file too large to change at random", error=error, file=self._store.digest)
        raise error

    async def _load(self) -> None:
        """Bring the stored content into memory."""
        size = self.base.size if self.base else 0
        self._require(size)
        content = bytearray(size)
        if self.base is not None and size:
            try:
                await self._store.get_range(self.base, 0, memoryview(content))
                self._check(content, self.base)
            except BaseException:  # cleaned up and passed on, cancellation included
                self._release()
                raise
        self._content = content

    @staticmethod
    def _check(content: bytearray, version: ObjectVersion) -> None:
        got = crc64(content)
        if version.crc is not None and version.crc != got:
            raise IntegrityError("GetObject", expected=version.crc, got=got)

    def _release(self) -> None:
        self._budget.release(self._charged)
        self._charged = 0
        self._content = None
        self._changed = False

    async def _stream_from_scratch(self) -> None:
        content = self._scratch()
        stream = self._store.stream()
        self._stream = stream
        with memoryview(content) as view:
            await stream.append(view)
        self._release()

    async def _stream_from_base(self, length: int) -> None:
        if self.base is None:
            raise RuntimeError("there is nothing to copy")
        stream = self._store.stream()
        try:
            await stream.begin_with(self.base, length)
        except BaseException:  # cleaned up and passed on, cancellation included
            await stream.abort()
            raise
        self._stream = stream

    async def truncate(self, size: int) -> None:
        """Set the size. Raises EFBIG like :meth:`write`."""
        async with self._lock:
            self._raise_lost()
            if size == self.size and (size or self._content is not None):
                return
            if size == 0:
                await self._empty()
                return
            if self._stream is not None:
                await self._commit()
            base = self.base
            if self._content is None and base is not None and MIN_HEAD <= size < base.size:
                await self._stream_from_base(size)
                return
            if self._content is None:
                await self._load()
            content = self._scratch()
            self._require(size)
            self._random = True
            self._changed = True
            if size < len(content):
                del content[size:]
            else:
                content.extend(bytes(size - len(content)))

    async def _empty(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await stream.abort()
        self._release()
        self._content = bytearray()
        self._random = False
        self._changed = True

    # -- storing

    async def commit(self) -> None:
        """Store what is unflushed. Raises what went wrong; content in memory stays for a retry."""
        async with self._lock:
            self._raise_lost()
            await self._commit()

    async def _commit(self) -> None:
        if self.abandoned or not self.dirty:
            return
        if self._stream is not None:
            try:
                version = await self._stream.finish()
            except OssMountError as error:
                await self._lose(error)
                raise
            self._stream = None
            self._adopt(await self._store.committed(version, streamed=True))
            return
        with memoryview(self._scratch()) as view:
            version = await self._store.put(view)
        self._changed = False
        self._adopt(await self._store.committed(version, streamed=False))

    def _adopt(self, version: ObjectVersion) -> None:
        """Move our own handles to the version we have just stored."""
        former, self.base = self.base, version
        for handle in self.handles:
            if handle.writable or handle.version == former:
                handle.version = version

    def observe(self, version: ObjectVersion | None) -> None:
        """Take over what another open found in the store, unless there are changes of ours.

        Content in memory that belongs to another version is not what is there any more.
        """
        if self.dirty:
            return
        if self.base is None or version is None or self.base.etag != version.etag:
            self._release()
        self.base = version

    def rebase(self, version: ObjectVersion) -> None:
        """Note that the same content is now stored under another ETag (after a copy)."""
        self._adopt(version)

    async def _lose(self, error: OssMountError) -> None:
        """Remember that data is lost, and leave no upload behind."""
        log.error("upload failed", error=error, file=self._store.digest)
        self._lost = error
        stream, self._stream = self._stream, None
        if stream is not None:
            await self._abort(stream)

    async def _abort(self, stream: StreamUpload) -> None:
        try:
            await stream.abort()
        except OssMountError as error:
            log.error("upload left behind", error=error, file=self._store.digest)  # noqa: TRY400

    def _raise_lost(self) -> None:
        if self._lost is not None:
            raise UploadFailedError(errno.EIO, "write", "an upload failed") from self._lost

    async def close(self, handle: Handle) -> None:
        """Give up one handle. With the last writable one, unflushed content is stored.

        Raises what storing raises, after everything is released.
        """
        self.handles.discard(handle)
        if handle.reader is not None:
            await handle.reader.close()
        if handle.writable and not any(other.writable for other in self.handles):
            try:
                if self._lost is None:
                    await self.commit()
            finally:
                await self.drop()

    async def drop(self) -> None:
        """Forget unflushed content and abort its upload."""
        stream, self._stream = self._stream, None
        self._release()
        if stream is not None:
            await self._abort(stream)

    async def shut(self) -> None:
        """Store what can be stored and release everything, whatever happens."""
        with contextlib.suppress(FileError):
            try:
                await self.commit()
            except OssMountError as error:
                log.error("not stored", error=error, file=self._store.digest)  # noqa: TRY400
        await self.drop()
        for handle in self.handles:
            if handle.reader is not None:
                await handle.reader.close()
