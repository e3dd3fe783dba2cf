"""One inode's place in the bucket, as an open file sees it.

Joins inode, object calls and multipart uploads: which key, which metadata, what is known after a
write. Keys are looked up at each call, so a file may be renamed while it is open.
"""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ossmount.bucket import Bucket
from ossmount.memory import MemoryBudget
from ossmount.multipart import MultipartApi
from ossmount.names import path_digest
from ossmount.objects import FILE_TYPE, ObjectVersion, StoredAttributes
from ossmount.tree import Inode, Tree
from ossmount.upload import StreamUpload


@dataclass(frozen=True, slots=True)
class Backend:
    """What all inodes share: the bucket, the tree, budgets and the time answers stay fresh."""

    bucket: Bucket
    multipart: MultipartApi
    tree: Tree
    parts: MemoryBudget
    attribute_seconds: float

    def freshen(self, inode: Inode) -> None:
        """Note that what is known of ``inode`` was true just now."""
        inode.fresh_until = asyncio.get_running_loop().time() + self.attribute_seconds

    def is_fresh(self, inode: Inode) -> bool:
        """Whether ``inode`` need not be asked for again."""
        return asyncio.get_running_loop().time() < inode.fresh_until

    async def replace_attributes(
        self, inode: Inode, changes: StoredAttributes, kept: Mapping[str, str]
    ) -> ObjectVersion:
        """Copy a stored object onto itself with changed metadata; return its new version.

        ``kept`` holds the headers it has now. Raises :class:`~ossmount.errors.OssError`.
        """
        if inode.version is None:
            raise ValueError("only a stored object has metadata to replace")
        kind = stat.S_IFDIR if inode.is_directory else stat.S_IFREG
        attributes = inode.stored.merged(changes)
        headers = {"content-type": FILE_TYPE, **kept, **attributes.to_headers(kind)}
        key = self.tree.key(inode)
        etag = await self.bucket.copy(key, key, inode.version, headers)
        now = int(time.time()) * 1_000_000_000
        version = replace(inode.version, etag=etag, modified_ns=now)
        inode.see(version, attributes)
        self.freshen(inode)
        return version


class InodeStore:
    """The :class:`~ossmount.openfile.ContentStore` of one file."""

    def __init__(self, backend: Backend, inode: Inode) -> None:
        self._backend = backend
        self._inode = inode
        self._streamed_headers: Mapping[str, str] = {}

    @property
    def _key(self) -> str:
        return self._backend.tree.key(self._inode)

    @property
    def digest(self) -> str:
        return path_digest(self._key)

    def _headers(self) -> dict[str, str]:
        return {"Content-Type": FILE_TYPE, **self._inode.stored.to_headers(stat.S_IFREG)}

    async def get_range(
        self,
        version: ObjectVersion,
        start: int,
        target: memoryview,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        await self._backend.bucket.get_range(self._key, version, start, target, progress)

    async def put(self, content: memoryview) -> ObjectVersion:
        return await self._backend.bucket.put(self._key, content, self._headers())

    async def put_new(self) -> ObjectVersion:
        """Store an empty object unless there is one: the store answers FileAlreadyExists."""
        return await self._backend.bucket.put(self._key, b"", self._headers(), exclusive=True)

    def stream(self) -> StreamUpload:
        self._streamed_headers = self._headers()
        return StreamUpload(
            self._backend.multipart, self._key, self._streamed_headers, self._backend.parts
        )

    async def committed(self, version: ObjectVersion, *, streamed: bool) -> ObjectVersion:
        inode = self._inode
        inode.see(version, inode.stored)
        inode.changed_ns = 0
        # Pages written through the kernel's cache are what was just stored.
        inode.cached_etag = version.etag
        self._backend.freshen(inode)
        headers = self._headers()
        if streamed and headers != self._streamed_headers:
            # Times or modes were set while the upload, which had the older ones, was under way.
            version = await self._backend.replace_attributes(inode, inode.stored, headers)
        return version
