"""pyfuse3 handlers. Thin: translate arguments, call, translate results.

Symbolic and hard links, special files and extended attributes do not exist here: ENOTSUP.
"""

# ruff: noqa: ARG002, PLR0917 - pyfuse3 fixes the signatures
from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

import pyfuse3

from ossmount.attributes import Presentation
from ossmount.bucket import Bucket
from ossmount.directory import DirectoryHandle
from ossmount.errors import FileError
from ossmount.faults import answered
from ossmount.files import FileTable
from ossmount.namespace import Namespace
from ossmount.objects import StoredAttributes
from ossmount.rename import Renamer
from ossmount.tree import Inode, Tree

STATFS_BLOCK: Final = 1 << 20
STATFS_BLOCKS: Final = 1 << 40  # a bucket has no size; large, and safe from overflow in callers
NAME_MAX: Final = 255


class OssOperations(pyfuse3.Operations):
    """The file system as the kernel calls it."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(
        self,
        *,
        bucket: Bucket,
        tree: Tree,
        namespace: Namespace,
        renamer: Renamer,
        files: FileTable,
        presentation: Presentation,
    ) -> None:
        super().__init__()
        self._bucket = bucket
        self._tree = tree
        self._namespace = namespace
        self._renamer = renamer
        self._files = files
        self._presentation = presentation
        self._directories: dict[int, tuple[DirectoryHandle, Inode]] = {}
        self._last_directory = 0

    def _known(self, inode: Inode) -> pyfuse3.EntryAttributes:
        """Count a lookup and return the attributes."""
        inode.lookups += 1
        return self._presentation.attributes(inode)

    @answered
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = self._tree.directory(parent_inode)
        return self._known(await self._namespace.find(parent, name))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for number, count in inode_list:
            self._tree.forget(number, count)

    @answered
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        found = self._tree.get(inode)
        await self._namespace.refresh(found)
        return self._presentation.attributes(found)

    @answered
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        found = self._tree.get(inode)
        self._namespace.require_writable("setattr")
        if fields.update_size:
            if found.is_directory:
                raise FileError(errno.EISDIR, "truncate")
            await self._files.truncate(found, attr.st_size)
        changes = StoredAttributes(
            mode=stat.S_IMODE(attr.st_mode) if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        await self._namespace.set_attributes(found, changes)
        return self._presentation.attributes(found)

    @answered
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = self._tree.directory(parent_inode)
        attributes = _created(mode, ctx)
        return self._known(await self._namespace.make_directory(parent, name, attributes))

    @answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._namespace.remove_file(self._tree.directory(parent_inode), name)

    @answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._namespace.remove_directory(self._tree.directory(parent_inode), name)

    @answered
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        await self._renamer.rename(
            self._tree.directory(parent_inode_old),
            name_old,
            self._tree.directory(parent_inode_new),
            name_new,
            flags,
        )

    @answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if not stat.S_ISREG(mode):
            raise FileError(errno.ENOTSUP, "mknod", "a bucket holds regular files only")
        parent = self._tree.directory(parent_inode)
        inode = await self._namespace.make_file(parent, name, _created(mode, ctx))
        try:
            await self._files.release(await self._files.create(inode, os.O_EXCL))
        except BaseException:  # cleaned up and passed on, cancellation included
            self._namespace.unmake(inode)
            raise
        return self._known(inode)

    @answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise FileError(errno.ENOTSUP, "symlink")

    @answered
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise FileError(errno.ENOTSUP, "link")

    # -- files

    @answered
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        opened = await self._files.open(self._tree.get(inode), flags)
        if not opened.keep_attributes:
            # Attributes only: invalidating pages from inside a handler could wait for itself.
            with contextlib.suppress(OSError):
                pyfuse3.invalidate_inode(pyfuse3.InodeT(inode), attr_only=True)
        return pyfuse3.FileInfo(fh=opened.number, keep_cache=opened.keep_pages)

    @answered
    async def create(
        self,
        parent_inode: int,
        name: bytes,
        mode: int,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        parent = self._tree.directory(parent_inode)
        inode = await self._namespace.make_file(parent, name, _created(mode, ctx))
        try:
            number = await self._files.create(inode, flags)
        except BaseException:  # cleaned up and passed on, cancellation included
            self._namespace.unmake(inode)
            raise
        return pyfuse3.FileInfo(fh=number, keep_cache=True), self._known(inode)

    @answered
    async def read(self, fh: int, off: int, size: int) -> bytes:
        # pyfuse3 takes any contiguous buffer, though its stub says bytes.
        return await self._files.read(fh, off, size)  # type: ignore[return-value]

    @answered
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._files.write(fh, off, buf)

    @answered
    async def flush(self, fh: int) -> None:
        await self._files.flush(fh)

    @answered
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._files.flush(fh)

    @answered
    async def release(self, fh: int) -> None:
        await self._files.release(fh)

    # -- directories

    @answered
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        directory = self._tree.directory(inode)
        handle = DirectoryHandle(self._bucket, self._tree.key(directory))
        self._last_directory += 1
        self._directories[self._last_directory] = (handle, directory)
        return self._last_directory

    @answered
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        handle, directory = self._directories[fh]
        await handle.seek(min(start_id, PENDING_BASE))
        while start_id < PENDING_BASE and (entry := await handle.peek()) is not None:
            inode = self._namespace.listed(directory, entry.name, entry.listed)
            if not self._reply(token, inode, handle.position + 1):
                return
            handle.advance()
            if inode.opened is not None:
                handle.seen_pending.add(inode.name)
        pending = sorted(self._namespace.pending(directory), key=lambda child: child.number)
        for inode in pending:
            position = PENDING_BASE + inode.number
            if position <= start_id or inode.name in handle.seen_pending:
                continue
            if not self._reply(token, inode, position):
                return

    def _reply(self, token: pyfuse3.ReaddirToken, inode: Inode, next_id: int) -> bool:
        attributes = self._presentation.attributes(inode)
        if pyfuse3.readdir_reply(token, inode.name.encode(), attributes, next_id):
            inode.lookups += 1
            return True
        self._tree.settle(inode)
        return False

    @answered
    async def releasedir(self, fh: int) -> None:
        del self._directories[fh]

    @answered
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """Every change of a directory is stored when the call that makes it returns."""

    @answered
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = STATFS_BLOCK
        data.f_blocks = data.f_bfree = data.f_bavail = STATFS_BLOCKS
        data.f_files = data.f_ffree = data.f_favail = STATFS_BLOCKS
        data.f_namemax = NAME_MAX
        return data


#: Positions in a directory from here on are of files that exist only in this process.
PENDING_BASE: Final = 1 << 48


def _created(mode: int, ctx: pyfuse3.RequestContext) -> StoredAttributes:
    # The kernel has applied the umask already.
    return StoredAttributes(mode=stat.S_IMODE(mode), uid=ctx.uid, gid=ctx.gid)
