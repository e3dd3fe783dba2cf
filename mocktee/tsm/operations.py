"""FUSE handlers: system calls to rules and back, nothing else.

Structure is fixed as in configfs and sysfs: only ``mkdir`` and ``rmdir`` below ``report`` change
it. Kernel caches are off (direct I/O, zero timeouts), so every call arrives here. Handlers that
only look (lookup, getattr, readdir, statfs) never wait for the subsystem lock, or a quote in
progress would hang ``ls``.
"""

# ruff: noqa: ARG002, PLR0917 (the signatures are pyfuse3's)

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from itertools import count
from typing import Final, NoReturn

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from mocktee.errors import SyscallError
from mocktee.tsm.boundary import answered
from mocktee.tsm.files import OpenFile
from mocktee.tsm.subsystem import ReportSubsystem
from mocktee.tsm.tree import Attribute, Directory, Node, Tree

NAME_MAX: Final = 255
BLOCK_BYTES: Final = 4096


class TsmOperations(pyfuse3.Operations):
    """The file system of one mount."""

    supports_dot_lookup = False

    def __init__(self, tree: Tree, subsystem: ReportSubsystem) -> None:
        super().__init__()
        self._tree = tree
        self._subsystem = subsystem
        self._handles = count(1)
        self._open: dict[int, OpenFile] = {}
        self._listings: dict[int, list[tuple[bytes, Node]]] = {}

    # Looking: never waits.

    @answered
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        child = self._directory(parent_inode).children.get(_checked(name))
        if child is None:
            raise SyscallError(errno.ENOENT)
        child.lookups += 1
        return _attributes(child)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, lookups in inode_list:
            self._tree.forget(inode, lookups)

    @answered
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return _attributes(self._node(inode))

    @answered
    async def access(self, inode: int, mode: int, ctx: RequestContext) -> bool:
        self._node(inode)
        return True

    @answered
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        data = StatvfsData()
        data.f_bsize = data.f_frsize = BLOCK_BYTES
        data.f_blocks = data.f_bfree = data.f_bavail = 0
        data.f_files = data.f_ffree = data.f_favail = 0
        data.f_namemax = NAME_MAX
        return data

    @answered
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        handle = next(self._handles)
        self._listings[handle] = list(self._directory(inode).children.items())
        return handle

    @answered
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        listing = self._listings[fh]
        for position, (name, node) in enumerate(listing[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, name, _attributes(node), position):
                return
            node.lookups += 1

    @answered
    async def releasedir(self, fh: int) -> None:
        del self._listings[fh]

    @answered
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        return

    # Structure: entries come and go by mkdir and rmdir, everything else is refused.

    @answered
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        if not self._directory(parent_inode).holds_entries:
            raise SyscallError(errno.EPERM)
        entry = await self._subsystem.make_entry(_checked(name))
        directory = self._tree.add_entry(entry)
        directory.lookups += 1
        return _attributes(directory)

    @answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        if not self._directory(parent_inode).holds_entries:
            raise SyscallError(errno.EPERM)
        await self._subsystem.remove_entry(name)
        self._tree.remove_entry(name)

    @answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        _refuse(errno.EPERM)

    @answered
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        _refuse(errno.EPERM)

    @answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        _refuse(errno.EPERM)

    @answered
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        _refuse(errno.EPERM)

    @answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        _refuse(errno.EACCES)

    @answered
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        _refuse(errno.EACCES)

    @answered
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        _refuse(errno.EINVAL)

    @answered
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Truncation and times are accepted without effect; owner and mode are fixed."""
        if fields.update_mode or fields.update_uid or fields.update_gid:
            raise SyscallError(errno.EPERM)
        return _attributes(self._node(inode))

    # Files.

    @answered
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        """Direction is judged here, for root too: FUSE itself checks nothing."""
        node = self._node(inode)
        if not isinstance(node, Attribute):
            raise SyscallError(errno.EISDIR)
        if node.detached:
            raise SyscallError(errno.ENOENT)
        direction = flags & os.O_ACCMODE
        if direction != os.O_WRONLY and not node.readable:
            raise SyscallError(errno.EACCES)
        if direction != os.O_RDONLY and not node.writable:
            raise SyscallError(errno.EACCES)
        handle = next(self._handles)
        self._open[handle] = node.opener()
        return FileInfo(fh=handle, direct_io=True, keep_cache=False, nonseekable=not node.seekable)

    @answered
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self._open[fh].read(off, size)

    @answered
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._open[fh].write(off, bytes(buf))

    @answered
    async def flush(self, fh: int) -> None:
        """close() waits for this and not for ``release``, so the store happens here."""
        await self._open[fh].closed()

    @answered
    async def release(self, fh: int) -> None:
        del self._open[fh]

    @answered
    async def fsync(self, fh: int, datasync: bool) -> None:
        _refuse(errno.EINVAL)

    def _node(self, inode: int) -> Node:
        node = self._tree.node(inode)
        if node is None:
            raise SyscallError(errno.ENOENT)
        return node

    def _directory(self, inode: int) -> Directory:
        node = self._node(inode)
        if not isinstance(node, Directory):
            raise SyscallError(errno.ENOTDIR)
        return node


def _refuse(number: int) -> NoReturn:
    raise SyscallError(number)


def _checked(name: bytes) -> bytes:
    if len(name) > NAME_MAX:
        raise SyscallError(errno.ENAMETOOLONG)
    return name


def _attributes(node: Node) -> EntryAttributes:
    attributes = EntryAttributes()
    attributes.st_ino = node.inode
    attributes.st_mode = node.mode
    attributes.st_size = node.size
    attributes.st_nlink = 2 if isinstance(node, Directory) else 1
    attributes.st_uid = attributes.st_gid = 0
    attributes.st_blksize = BLOCK_BYTES
    attributes.st_blocks = 0
    attributes.entry_timeout = attributes.attr_timeout = 0
    return attributes
