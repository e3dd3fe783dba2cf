"""Renaming in a flat bucket: copy, then delete; bounded, and undone when the copying fails.

Not atomic, as with ossfs: between copying and deleting both names exist. Nothing is deleted
before everything is copied.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pyfuse3

from ossmount.bucket import MAX_DELETED
from ossmount.documents import ListedObject
from ossmount.errors import FileError, OssMountError
from ossmount.files import FileTable
from ossmount.names import MAX_KEY, child_key, component, path_digest
from ossmount.namespace import Namespace
from ossmount.objects import ObjectVersion
from ossmount.store import Backend
from ossmount.tree import Inode
from secrecy.journal import get_logger

log = get_logger("ossmount")

MAX_KEYS: Final = 100_000  # keys of one directory rename; what it holds in memory
COPIES_IN_FLIGHT: Final = 16


class Renamer:
    """Moves files and directories."""

    def __init__(self, backend: Backend, files: FileTable, namespace: Namespace) -> None:
        self._backend = backend
        self._bucket = backend.bucket
        self._tree = backend.tree
        self._files = files
        self._namespace = namespace

    async def rename(
        self, parent: Inode, name: bytes, new_parent: Inode, new_name: bytes, flags: int
    ) -> None:
        """Rename as rename(2) does. Raises EINVAL for an exchange, EEXIST, ENOTEMPTY and so on."""
        self._namespace.require_writable("rename")
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise FileError(errno.EINVAL, "rename", "an exchange is not possible in a bucket")
        target = component(new_name)
        key = child_key(self._tree.key(new_parent), target)
        source = await self._namespace.find(parent, name)
        exclusive = bool(flags & pyfuse3.RENAME_NOREPLACE)
        present = await self._target(new_parent, new_name)
        if present is source:
            return
        if present is not None:
            await self._check_target(source, present, exclusive=exclusive)
        if source.is_directory:
            await self._move_directory(source, key + "/")
        else:
            await self._move_file(source, key, exclusive=exclusive)
        self._tree.move(source, new_parent, target)

    async def _target(self, parent: Inode, name: bytes) -> Inode | None:
        try:
            return await self._namespace.find(parent, name)
        except FileError as error:
            if error.errno != errno.ENOENT:
                raise
            return None

    async def _check_target(self, source: Inode, present: Inode, *, exclusive: bool) -> None:
        if exclusive:
            raise FileError(errno.EEXIST, "rename")
        if source.is_directory and not present.is_directory:
            raise FileError(errno.ENOTDIR, "rename")
        if present.is_directory and not source.is_directory:
            raise FileError(errno.EISDIR, "rename")
        if present.is_directory:
            await self._namespace.require_empty(present)
        file = self._files.file(present)
        if file is not None:
            file.abandoned = True

    async def _move_file(self, source: Inode, key: str, *, exclusive: bool) -> None:
        file = self._files.file(source)
        if file is not None:
            await file.commit()
        version = source.version
        if version is None:
            raise FileError(errno.ENOENT, "rename")
        former = self._tree.key(source)
        etag = await self._bucket.copy(former, key, version, exclusive=exclusive)
        if source.parent is not None:
            await self._namespace.keep_directory(source.parent)
        await self._bucket.delete(former)
        moved = ObjectVersion(etag, version.size, version.modified_ns, version.crc)
        if source.cached_etag == version.etag:
            source.cached_etag = etag
        source.see(moved, source.stored if source.stored_known else None)
        if file is not None:
            file.rebase(moved)

    async def _move_directory(self, source: Inode, target: str) -> None:
        prefix = self._tree.key(source)
        if target.startswith(prefix):
            raise FileError(errno.EINVAL, "rename", "a directory cannot move into itself")
        for inode in self._tree.descendants(source):
            file = self._files.file(inode)
            if file is not None:
                await file.commit()
        objects = await self._collect(prefix, target)
        etags = await self._copy_all(objects, prefix, target)
        if source.parent is not None:
            await self._namespace.keep_directory(source.parent)
        await self._delete_all([item.key for item in objects])
        self._keep_open(source, etags)

    def _keep_open(self, source: Inode, etags: Mapping[str, str]) -> None:
        """Let open files below a moved directory go on with their copies."""
        for inode in self._tree.descendants(source):
            version, etag = inode.version, etags.get(self._tree.key(inode))
            if version is None or etag is None:
                continue
            if inode.cached_etag == version.etag:
                inode.cached_etag = etag
            moved = replace(version, etag=etag)
            inode.see(moved, inode.stored if inode.stored_known else None)
            file = self._files.file(inode)
            if file is not None:
                file.rebase(moved)

    async def _collect(self, prefix: str, target: str) -> list[ListedObject]:
        """List everything below ``prefix``. Raises EMFILE beyond the limit, before any change."""
        objects: list[ListedObject] = []
        token: str | None = None
        while True:
            page = await self._bucket.list_page(prefix, token=token)
            objects += page.objects
            if page.hidden:
                raise FileError(errno.EIO, "rename", "a key below the directory is not UTF-8")
            if len(objects) > MAX_KEYS:
                log.warning("directory too large to rename", limit=MAX_KEYS)
                raise FileError(errno.EMFILE, "rename", f"more than {MAX_KEYS} objects")
            token = page.next_token
            if token is None:
                break
        longest = max((len(item.key.encode()) for item in objects), default=0)
        if longest - len(prefix.encode()) + len(target.encode()) > MAX_KEY:
            raise FileError(errno.ENAMETOOLONG, "rename", "a key below would be too long")
        return objects

    async def _copy_all(
        self, objects: list[ListedObject], prefix: str, target: str
    ) -> dict[str, str]:
        """Copy everything, or nothing; return the copies' ETags by the keys of their sources."""
        etags: dict[str, str] = {}
        begun: list[str] = []
        failures: list[OssMountError] = []
        limit = asyncio.Semaphore(COPIES_IN_FLIGHT)

        async def copy(item: ListedObject) -> None:
            key = target + item.key[len(prefix) :]
            version = ObjectVersion(item.etag, item.size, item.modified_ns)
            async with limit:
                # Copies in flight are awaited, not cancelled: the server would finish them later.
                if failures:
                    return
                begun.append(key)
                try:
                    etags[item.key] = await self._bucket.copy(item.key, key, version)
                except OssMountError as error:
                    failures.append(error)

        async with asyncio.TaskGroup() as group:
            for item in objects:
                group.create_task(copy(item))
        if failures:
            await self._undo(begun)
            raise failures[0]
        return etags

    async def _undo(self, begun: list[str]) -> None:
        """Remove the copies of a failed rename. The target was empty, so all of it is ours."""
        try:
            await self._delete_all(begun)
        except OssMountError as error:
            digest = path_digest(begun[0])
            log.error("copies left behind", count=len(begun), first=digest, error=error)  # noqa: TRY400

    async def _delete_all(self, keys: list[str]) -> None:
        for start in range(0, len(keys), MAX_DELETED):
            await self._bucket.delete_many(keys[start : start + MAX_DELETED])
