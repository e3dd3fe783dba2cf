"""Detaching a mount from the tree (umount2(2)); Python's standard library has no call for it."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from lifecycle.directories import descriptor_path

MNT_DETACH: Final = 2  # include/linux/fs.h: out of the tree now, gone when nobody uses it
UMOUNT_NOFOLLOW: Final = 8  # never through a symbolic link


def detach_below(directory: int, name: str) -> int:
    """Take the topmost mount at ``name`` below a descriptor out of the tree, busy or dead as it is.

    Returns the error number, 0 for none: EINVAL if nothing is mounted there. Blocks. The caller has
    made sure that the mount is its own.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    path = ctypes.c_char_p(os.fsencode(descriptor_path(directory, name)))
    return 0 if libc.umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 else ctypes.get_errno()
