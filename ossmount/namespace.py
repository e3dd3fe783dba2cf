"""Names: looking up, making and removing files and directories, and their attributes.

Renaming is in :mod:`ossmount.rename`.
"""

from __future__ import annotations

import errno
import stat
from dataclasses import replace

from ossmount.documents import ListedObject
from ossmount.errors import FileError, OssRefusedError
from ossmount.files import FileTable
from ossmount.names import child_key, component
from ossmount.objects import DIRECTORY_TYPE, ObjectVersion, StoredAttributes
from ossmount.store import Backend
from ossmount.tree import Inode


class Namespace:
    """The directory tree of the mount."""

    def __init__(self, backend: Backend, files: FileTable, *, read_only: bool) -> None:
        self._backend = backend
        self._tree = backend.tree
        self._bucket = backend.bucket
        self._files = files
        self._read_only = read_only

    def require_writable(self, operation: str) -> None:
        """Raise EROFS on a read-only mount. The kernel checks too; this is the second lock."""
        if self._read_only:
            raise FileError(errno.EROFS, operation)

    # -- looking

    async def find(self, parent: Inode, name: bytes) -> Inode:
        """Return the child ``name``. Raises ENOENT; an error answer is never read as absent."""
        text = component(name)
        key = child_key(self._tree.key(parent), text)
        known = parent.children.get(text)
        if known is not None and self._is_current(known):
            return known
        head = await self._bucket.head(key)
        if head is not None:
            inode = self._tree.attach(parent, text, is_directory=False)
            inode.see(head.version, head.stored)
            self._backend.freshen(inode)
            return inode
        known = parent.children.get(text)
        if known is not None and self._is_pending(known):
            return known
        if await self._exists_below(key + "/"):
            inode = self._tree.attach(parent, text, is_directory=True)
            await self._see_marker(inode)
            return inode
        if known is not None:
            self._tree.detach(known)
        raise FileError(errno.ENOENT, "lookup")

    def _is_pending(self, inode: Inode) -> bool:
        return inode.opened is not None and (inode.opened.dirty or inode.version is None)

    def _is_current(self, inode: Inode) -> bool:
        complete = inode.stored_known or inode.is_directory
        return self._is_pending(inode) or (complete and self._backend.is_fresh(inode))

    async def _exists_below(self, prefix: str) -> bool:
        page = await self._bucket.list_page(prefix, limit=1)
        return bool(page.objects or page.hidden)

    async def _see_marker(self, inode: Inode) -> None:
        """Read the attributes of a directory from its marker object, if there is one."""
        head = await self._bucket.head(self._tree.key(inode))
        if head is None:
            inode.version, inode.stored, inode.stored_known = None, StoredAttributes(), True
        else:
            inode.see(head.version, head.stored)
        self._backend.freshen(inode)

    async def refresh(self, inode: Inode) -> None:
        """Bring an inode's attributes up to date unless they are. Raises ENOENT when it is gone."""
        if inode.removed or self._is_current(inode) or self._is_pending(inode):
            return
        if inode.parent is None:
            if self._tree.key(inode) and not inode.stored_known:
                await self._see_marker(inode)
            return
        found = await self.find(inode.parent, inode.name.encode())
        if found is not inode:
            raise FileError(errno.ESTALE, "getattr", "another kind of object has the name now")

    def listed(self, parent: Inode, name: str, item: ListedObject | None) -> Inode:
        """Return the inode of a directory entry, its attributes straight from the listing."""
        inode = self._tree.attach(parent, name, is_directory=item is None)
        if item is not None and not self._is_pending(inode):
            inode.see(ObjectVersion(item.etag, item.size, item.modified_ns), None)
        if inode.stored_known or item is None:
            self._backend.freshen(inode)
        return inode

    def pending(self, parent: Inode) -> list[Inode]:
        """Return the files of a directory that exist only here so far."""
        return [c for c in parent.children.values() if self._is_pending(c) and not c.removed]

    # -- making and removing

    async def make_file(self, parent: Inode, name: bytes, attributes: StoredAttributes) -> Inode:
        """Return a new inode for a file that is about to be created."""
        self.require_writable("create")
        text = component(name)
        child_key(self._tree.key(parent), text)
        known = parent.children.get(text)
        if known is not None:
            self._tree.detach(known)
        inode = self._tree.attach(parent, text, is_directory=False)
        inode.stored, inode.stored_known = attributes, True
        return inode

    def unmake(self, inode: Inode) -> None:
        """Take back :meth:`make_file`."""
        self._tree.detach(inode)

    async def make_directory(
        self, parent: Inode, name: bytes, attributes: StoredAttributes
    ) -> Inode:
        """Create a marker object. Raises EEXIST when the name is taken."""
        self.require_writable("mkdir")
        text = component(name)
        key = child_key(self._tree.key(parent), text) + "/"
        try:
            await self.find(parent, name)
        except FileError as error:
            if error.errno != errno.ENOENT:
                raise
        else:
            raise FileError(errno.EEXIST, "mkdir")
        version = await self._put_marker(key, attributes, exclusive=True)
        inode = self._tree.attach(parent, text, is_directory=True)
        inode.see(version, attributes)
        self._backend.freshen(inode)
        return inode

    async def _put_marker(
        self, key: str, attributes: StoredAttributes, *, exclusive: bool
    ) -> ObjectVersion:
        headers = {"Content-Type": DIRECTORY_TYPE, **attributes.to_headers(stat.S_IFDIR)}
        return await self._bucket.put(key, b"", headers, exclusive=exclusive)

    async def keep_directory(self, parent: Inode) -> None:
        """Give a directory a marker before its last child goes, or it would vanish with it."""
        key = self._tree.key(parent)
        if parent.parent is None or parent.version is not None or parent.removed:
            return
        page = await self._bucket.list_page(key, limit=2)
        if len(page.objects) + page.hidden >= 2 or any(o.key == key for o in page.objects):
            return
        try:
            version = await self._put_marker(key, parent.stored, exclusive=True)
        except OssRefusedError as error:
            if error.code != "FileAlreadyExists":
                raise
            return
        parent.see(version, parent.stored)

    async def remove_file(self, parent: Inode, name: bytes) -> None:
        """Delete a file at once. Open handles keep what is in memory. Raises ENOENT, EISDIR."""
        self.require_writable("unlink")
        inode = await self.find(parent, name)
        if inode.is_directory:
            raise FileError(errno.EISDIR, "unlink")
        file = self._files.file(inode)
        if file is not None:
            file.abandoned = True
        if inode.version is not None:
            try:
                await self.keep_directory(parent)
                await self._bucket.delete(self._tree.key(inode))
            except BaseException:  # cleaned up and passed on, cancellation included
                if file is not None:
                    file.abandoned = False
                raise
        self._tree.detach(inode)

    async def remove_directory(self, parent: Inode, name: bytes) -> None:
        """Delete an empty directory. Raises ENOENT, ENOTDIR, ENOTEMPTY."""
        self.require_writable("rmdir")
        inode = await self.find(parent, name)
        if not inode.is_directory:
            raise FileError(errno.ENOTDIR, "rmdir")
        await self.require_empty(inode)
        await self.keep_directory(parent)
        await self._bucket.delete(self._tree.key(inode))
        self._tree.detach(inode)

    async def require_empty(self, inode: Inode) -> None:
        """Raise ENOTEMPTY unless a directory holds nothing, hidden keys included."""
        key = self._tree.key(inode)
        page = await self._bucket.list_page(key, limit=2)
        others = [item for item in page.objects if item.key != key]
        if others or page.hidden or self.pending(inode):
            raise FileError(errno.ENOTEMPTY, "directory")

    # -- attributes

    async def set_attributes(self, inode: Inode, changes: StoredAttributes) -> None:
        """Store mode, owner or time. Unflushed files get them with their content."""
        self.require_writable("setattr")
        if changes == StoredAttributes():
            return
        if self._is_pending(inode) or inode.removed:
            inode.stored = inode.stored.merged(changes)
            return
        key = self._tree.key(inode)
        if not key:
            # The bucket's own root is no object; its attributes last as long as the mount.
            inode.stored = inode.stored.merged(changes)
            return
        head = await self._bucket.head(key)
        if head is None:
            if not inode.is_directory:
                raise FileError(errno.ENOENT, "setattr")
            attributes = inode.stored.merged(changes)
            version = await self._put_marker(key, attributes, exclusive=True)
            inode.see(version, attributes)
            return
        inode.see(head.version, head.stored)
        if head.stored.merged(changes) == head.stored:
            return
        former = head.version
        version = await self._backend.replace_attributes(inode, changes, head.kept)
        if inode.cached_etag == former.etag:
            inode.cached_etag = version.etag
        file = self._files.file(inode)
        if file is not None and file.base is not None and file.base.etag == former.etag:
            file.rebase(replace(version, crc=former.crc))
