"""Inodes: which number the kernel knows an object by, and for how long.

The tree holds only what the kernel holds (lookup counts) or what is open. It makes no requests
and knows nothing of attributes beyond keeping them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NewType, Protocol

from ossmount.errors import FileError
from ossmount.objects import ObjectVersion, StoredAttributes

InodeNumber = NewType("InodeNumber", int)
ROOT: Final = InodeNumber(1)


class OpenContent(Protocol):
    """What the tree's users need to know of an open file (see :mod:`ossmount.openfile`)."""

    @property
    def dirty(self) -> bool: ...

    @property
    def size(self) -> int: ...


@dataclass(slots=True, eq=False)
class Inode:
    """A file or directory the kernel knows. ``version`` is ``None`` while it exists only here."""

    number: InodeNumber
    parent: Inode | None
    name: str
    is_directory: bool
    lookups: int = 0
    children: dict[str, Inode] = field(default_factory=dict)
    version: ObjectVersion | None = None  # of a directory: its marker object, if it has one
    stored: StoredAttributes = field(default_factory=StoredAttributes)
    stored_known: bool = False  # whether ``stored`` was read for this version
    fresh_until: float = 0.0  # loop time
    changed_ns: int = 0  # local change not yet stored, or 0
    cached_etag: str = ""  # version whose pages the kernel may still hold
    removed: bool = False
    opened: OpenContent | None = None

    def see(self, version: ObjectVersion, stored: StoredAttributes | None) -> None:
        """Take over what the store says. Metadata known for the same ETag is kept."""
        if stored is not None:
            self.stored, self.stored_known = stored, True
        elif self.version is None or self.version.etag != version.etag:
            self.stored, self.stored_known = StoredAttributes(), False
        elif version.crc is None:
            version = self.version
        self.version = version


class Tree:
    """All inodes of one mount, below the key prefix it serves."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.root = Inode(ROOT, None, "", True, lookups=1)
        self._inodes: dict[int, Inode] = {ROOT: self.root}
        self._last = int(ROOT)

    def __len__(self) -> int:
        return len(self._inodes)

    def get(self, number: int) -> Inode:
        """Return an inode. Raises ESTALE for a number the kernel should have forgotten."""
        try:
            return self._inodes[number]
        except KeyError:
            raise FileError(errno.ESTALE, "inode", f"number {number} is unknown") from None

    def directory(self, number: int) -> Inode:
        """Return a directory. Raises ENOTDIR otherwise, ENOENT when it was removed."""
        inode = self.get(number)
        if not inode.is_directory:
            raise FileError(errno.ENOTDIR, "directory")
        if inode.removed:
            raise FileError(errno.ENOENT, "directory")
        return inode

    def key(self, inode: Inode) -> str:
        """Return the object key; of a directory its prefix, which ends with ``/`` or is empty."""
        parts: list[str] = []
        at: Inode | None = inode
        while at is not None and at.parent is not None:
            parts.append(at.name)
            at = at.parent
        path = "/".join(reversed(parts))
        if inode.is_directory and path:
            path += "/"
        return self._prefix + path

    def attach(self, parent: Inode, name: str, *, is_directory: bool) -> Inode:
        """Return the child ``name``; a new inode if it is unknown or was of the other kind."""
        known = parent.children.get(name)
        if known is not None:
            if known.is_directory == is_directory:
                return known
            self.detach(known)
        self._last += 1
        inode = Inode(InodeNumber(self._last), parent, name, is_directory)
        self._inodes[inode.number] = inode
        parent.children[name] = inode
        return inode

    def detach(self, inode: Inode) -> None:
        """Take a removed inode out of its directory. It lives on until the kernel forgets it."""
        inode.removed = True
        parent = inode.parent
        if parent is not None and parent.children.get(inode.name) is inode:
            del parent.children[inode.name]
        self.settle(inode)

    def move(self, inode: Inode, parent: Inode, name: str) -> None:
        """Give an inode another place, replacing what was there. Its descendants follow."""
        replaced = parent.children.get(name)
        if replaced is not None and replaced is not inode:
            self.detach(replaced)
        former = inode.parent
        if former is not None:
            del former.children[inode.name]
        inode.parent, inode.name = parent, name
        parent.children[name] = inode
        if former is not None:
            self.settle(former)

    def forget(self, number: int, count: int) -> None:
        """Lower a lookup count, as the kernel asks."""
        inode = self._inodes.get(number)
        if inode is not None:
            inode.lookups -= count
            self.settle(inode)

    def settle(self, inode: Inode) -> None:
        """Drop an inode, and then its ancestors, as far as nothing needs them any more."""
        at: Inode | None = inode
        while at is not None and at.parent is not None:
            if at.lookups > 0 or at.children or at.opened is not None:
                return
            parent = at.parent
            if parent.children.get(at.name) is at:
                del parent.children[at.name]
            self._inodes.pop(at.number, None)
            at = parent

    def descendants(self, inode: Inode) -> Iterator[Inode]:
        """Yield every inode below ``inode``."""
        for child in list(inode.children.values()):
            yield child
            yield from self.descendants(child)

    def all(self) -> Iterator[Inode]:
        """Yield every inode, those removed but still open included."""
        return iter(list(self._inodes.values()))
