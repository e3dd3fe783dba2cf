"""Detaching a mount from the tree (umount2(2)); Python's standard library has no call for it."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

from lifecycle.directories import descriptor_path, open_directory

MNT_DETACH: Final = 2  # include/linux/fs.h: out of the tree now, gone when nobody uses it
UMOUNT_NOFOLLOW: Final = 8  # never through a symbolic link


def detach(mount_point: str) -> bool:
    """Take the topmost mount at ``mount_point`` out of the tree, even if it is busy or dead.

    Returns False if nothing is mounted there. No link on the way is followed. Raises ``OSError``
    otherwise. Blocks: call it in a worker thread. The caller has made sure that the mount is its
    own.
    """
    parent, _, name = mount_point.rstrip("/").rpartition("/")
    try:
        directory = open_directory(parent)
    except FileNotFoundError:
        return False
    try:
        code = _umount(descriptor_path(directory, name))
    finally:
        os.close(directory)
    if code == 0:
        return True
    if code in (errno.EINVAL, errno.ENOENT):  # not a mount point; no such path
        return False
    raise OSError(code, f"umount2: {os.strerror(code)}", mount_point)


def _umount(path: str) -> int:
    """Return the error number, 0 for none."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = MNT_DETACH | UMOUNT_NOFOLLOW
    return 0 if libc.umount2(ctypes.c_char_p(os.fsencode(path)), flags) == 0 else ctypes.get_errno()
