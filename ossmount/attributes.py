"""What ``stat`` shows: stored metadata, local changes and the mount's options put together.

The rules of ossfs 1: ``uid`` and ``gid`` own everything; with ``umask`` every mode is
``0777 & ~umask`` and stored modes are ignored; without, an object that says nothing is 0640 (0750
for a directory) and belongs to this process. The root has its own rule (``mp_umask``).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Final

import pyfuse3

from ossmount.launch import Ownership
from ossmount.tree import Inode

FILE_MODE: Final = 0o640
DIRECTORY_MODE: Final = 0o750
ALL: Final = 0o777
BLOCK: Final = 512  # bytes of one st_blocks unit
IO_SIZE: Final = 1 << 20  # st_blksize: what cp and cat read and write at once
DIRECTORY_SIZE: Final = 4096


@dataclass(frozen=True, slots=True)
class Presentation:
    """Turns inodes into attributes for the kernel."""

    ownership: Ownership
    attribute_seconds: float
    mounted_ns: int  # time shown for directories that have none

    def attributes(self, inode: Inode) -> pyfuse3.EntryAttributes:
        """Return the attributes of ``inode`` as it is now, unflushed data included."""
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode.number
        entry.generation = 0
        entry.entry_timeout = self.attribute_seconds
        entry.attr_timeout = self.attribute_seconds
        entry.st_mode = (stat.S_IFDIR if inode.is_directory else stat.S_IFREG) | self.mode(inode)
        entry.st_nlink = 0 if inode.removed else 1
        entry.st_uid = self._owner(self.ownership.uid, inode.stored.uid, os.getuid())
        entry.st_gid = self._owner(self.ownership.gid, inode.stored.gid, os.getgid())
        entry.st_rdev = 0
        entry.st_size = self.size(inode)
        entry.st_blksize = IO_SIZE
        entry.st_blocks = -(-entry.st_size // BLOCK)
        written = inode.changed_ns or (inode.version.modified_ns if inode.version else 0)
        entry.st_mtime_ns = inode.stored.mtime_ns or written or self.mounted_ns
        entry.st_ctime_ns = written or self.mounted_ns
        entry.st_atime_ns = entry.st_mtime_ns
        return entry

    def size(self, inode: Inode) -> int:
        """Return the size in bytes, of unflushed content where there is some."""
        if inode.is_directory:
            return DIRECTORY_SIZE
        if inode.opened is not None and inode.opened.dirty:
            return inode.opened.size
        return inode.version.size if inode.version else 0

    def mode(self, inode: Inode) -> int:
        """Return the permission bits."""
        owner = self.ownership
        if inode.parent is None:
            if owner.mp_umask is not None:
                return ALL & ~owner.mp_umask
            if owner.umask is None and inode.stored.mode is None:
                return ALL if owner.allow_other else stat.S_IRWXU
        if owner.umask is not None:
            return ALL & ~owner.umask
        if inode.stored.mode is not None:
            return inode.stored.mode
        return DIRECTORY_MODE if inode.is_directory else FILE_MODE

    @staticmethod
    def _owner(option: int | None, stored: int | None, process: int) -> int:
        if option is not None:
            return option
        return process if stored is None else stored
