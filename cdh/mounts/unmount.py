"""Detaching a mount from the tree (umount2(2)); Python's standard library has no call for it."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

MNT_DETACH: Final = 2  # include/linux/fs.h: out of the tree now, gone when nobody uses it
UMOUNT_NOFOLLOW: Final = 8  # never through a symbolic link


def detach(mount_point: str) -> bool:
    """Take the topmost mount at ``mount_point`` out of the tree, even if it is busy or dead.

    Returns False if nothing is mounted there. Raises ``OSError`` otherwise. Blocks: call it in a
    worker thread. The caller has made sure that the mount is its own.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    path = ctypes.c_char_p(os.fsencode(mount_point))
    if libc.umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOENT):  # not a mount point; no such path
        return False
    raise OSError(code, f"umount2: {os.strerror(code)}", mount_point)
